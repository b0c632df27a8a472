"""What scripts/e2e does on its cluster: install, use, break, scale, move, roll, back up and restore; then count.

Every job writes its own number to ``/output``. At the end each one must have succeeded with that output, and
exactly one of its attempts must have been accepted.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable

from dccf.client import Client
from dccf.errors import ApiUnavailable
from k8s.e2e.lab import (
    JOB_SECONDS,
    NODE_ADDRESS,
    QUEUE_TOPIC,
    REPOSITORY,
    Jobs,
    cluster,
    forward,
    kafka,
    kill,
    kubectl,
    node_of,
    pods,
    queue_partition,
    say,
    sql,
    step,
    token,
    wait_for,
)

WRITERS = ("deployment/api", "deployment/controller", "deployment/worker", "deployment/flower")


def install() -> None:
    """Apply everything and wait until it can be used."""
    kubectl("apply", "-f", os.environ["E2E_MANIFEST"])
    kubectl("wait", "--for=condition=available", "deployment", "--all", "--timeout=500s")
    kubectl("rollout", "status", "statefulset/kafka", "--timeout=300s")


def demo(client: Client) -> None:
    """Run examples/hello, as a person would."""
    handle = client.submit(REPOSITORY / "examples" / "hello")
    handle.wait(JOB_SECONDS)
    handle.raise_for_status()
    with tempfile.TemporaryDirectory() as folder:
        text = "".join(path.read_text() for path in handle.download(folder))
    log = b"".join(handle.read_log()).decode()
    if "Test success!" not in text or "Hello from a container." not in log:
        raise SystemExit(f"examples/hello gave {text!r} and logged {log!r}")
    say(f"   /output/output.txt: {text.strip()}")


def break_things(client: Client, jobs: Jobs) -> None:
    """Kill the worker's pod, then a broker's, then the API's, each with jobs running."""
    handles = jobs.submit(client, 8, seconds=4)
    wait_for("a job runs", lambda: sql("SELECT count(*) FROM job WHERE state = 'running'") != "0")
    kill(*pods("worker"))
    handles += jobs.submit(client, 4, seconds=1)
    say("   the leader of the queue is next")
    kill(f"kafka-{queue_partition()['leader_id']}")
    handles += jobs.submit(client, 4, seconds=1)
    old = pods("api")
    kill(*old)
    wait_for("a new API is there", lambda: set(pods("api")) - set(old))
    kubectl("wait", "--for=condition=ready", "pod", *pods("api"), "--timeout=300s")
    wait_for("the Service knows the new API", client_answers(client))
    handles += jobs.submit(client, 4, seconds=1)
    jobs.check(client, handles)
    kubectl("rollout", "status", "statefulset/kafka", "--timeout=300s")


def client_answers(client: Client) -> Callable[[], bool]:
    """Give the question whether the API can be reached through the Service and says that it is ready."""

    def ready() -> bool:
        try:
            return client.readiness()["ready"] is True
        except ApiUnavailable:
            return False

    return ready


def scale(jobs: Jobs) -> None:
    """Go from one worker to three and from one API to two; submit to one API, read from the other."""
    kubectl("scale", "deployment/worker", "--replicas=3")
    kubectl("scale", "deployment/api", "--replicas=2")
    for name in ("worker", "api"):
        kubectl("rollout", "status", f"deployment/{name}", "--timeout=400s")
    first, second = (
        Client(forward(f"{kubectl('get', 'pod', pod, '-o', 'jsonpath={.status.podIP}')}:8080"), token())
        for pod in sorted(pods("api"))[:2]
    )
    with first, second:
        wait_for("three workers beat", lambda: sum(bool(row["is_alive"]) for row in first.workers()) >= 3)
        handles = jobs.submit(first, 18, seconds=2)
        jobs.check(second, handles)
        used = {attempt.worker for handle in handles for attempt in second.job(handle.id).attempts()}
    say(f"   18 jobs ran on {len(used)} workers")
    if len(used) < 2:
        raise SystemExit(f"all jobs ran on {used}")


def move_queue(client: Client, jobs: Jobs) -> None:
    """Add a fourth broker and make it the leader of the queue, with jobs going through."""
    kubectl("scale", "statefulset/kafka", "--replicas=4")
    kubectl("rollout", "status", "statefulset/kafka", "--timeout=300s")
    handles = jobs.submit(client, 6, seconds=1)
    kafka("partitions", "alter-reassignments", "--reassign", f"{QUEUE_TOPIC}:0=3,0,1")
    wait_for("the queue is on broker 3", lambda: 3 in queue_partition()["isr_nodes"])
    # By itself the new first broker would take the lead at the next look, every five minutes.
    wait_for("the queue has left its old brokers", lambda: len(queue_partition()["replica_nodes"]) == 3)
    if queue_partition()["leader_id"] != 3:
        kafka("partitions", "elect-leaders", "--topic-partition", f"{QUEUE_TOPIC}:0")
    wait_for("broker 3 leads the queue", lambda: queue_partition()["leader_id"] == 3)
    handles += jobs.submit(client, 6, seconds=1)
    jobs.check(client, handles)


def roll(client: Client, jobs: Jobs) -> None:
    """Replace all workers while they have jobs; none may lose its attempt."""
    before = sql("SELECT count(*) FROM attempt")
    handles = jobs.submit(client, 12, seconds=4)
    old = set(pods("worker"))
    kubectl("rollout", "restart", "deployment/worker")
    kubectl("rollout", "status", "deployment/worker", "--timeout=500s")
    handles += jobs.submit(client, 3, seconds=1)
    jobs.check(client, handles)
    if old & set(pods("worker")):
        raise SystemExit("the workers are still the old ones")
    more = int(sql("SELECT count(*) FROM attempt")) - int(before) - len(handles)
    say(f"   {len(handles)} jobs, {more} attempts more than that")
    if more:
        raise SystemExit("a worker that was told to stop did not finish its jobs")


def check_firewall() -> None:
    """Try from a container with a network what a job may not reach: the broker, the API server, the daemon itself."""
    broker = kubectl("get", "pod", "kafka-0", "-o", "jsonpath={.status.podIP}")
    targets = {f"{broker} 9092", "10.96.0.1 443", "172.17.0.1 22", "169.254.169.254 80"}
    tries = "; ".join(f"timeout 5 telnet {target} < /dev/null 2>&1 | head -n 1" for target in sorted(targets))
    docker = ["docker", "--host", "unix:///run/dind/docker.sock", "run", "--rm", "busybox", "sh", "-c", tries]
    answers = kubectl("exec", pods("worker")[0], "--container", "dind", "--", *docker).splitlines()
    # How the firewall's "administratively prohibited" is told to programs; nobody else would say that here.
    if len(answers) != len(targets) or not all("No route to host" in answer for answer in answers):
        raise SystemExit(f"a container with a network reached something: {answers}")


def restore(client: Client, jobs: Jobs) -> None:
    """Dump as the nightly job does, destroy the database, restore it as documented; all jobs must be there."""
    kubectl("create", "job", "--from=cronjob/backup", "backup-now")
    kubectl("wait", "--for=condition=complete", "job/backup-now", "--timeout=300s")
    kept = sql("SELECT (SELECT count(*) FROM job), (SELECT count(*) FROM blob_chunk)")
    kubectl("scale", *WRITERS, "--replicas=0")
    wait_for(
        "nobody uses the database", lambda: not [pod for part in WRITERS for pod in pods(part.partition("/")[2])]
    )
    container = ".spec.jobTemplate.spec.template.spec.containers[0]"
    secret = f"{{{container}.env[?(@.name=='PGPASSWORD')].valueFrom.secretKeyRef.name}}"
    name = kubectl("get", "cronjob", "backup", "-o", f"jsonpath={secret}")
    manifest = (REPOSITORY / "k8s" / "restore.yaml").read_text().replace("dccf-secrets", name)
    # The image is on that node alone.
    kubectl(
        "apply", "-f", "-", given=manifest.replace("volumes:", "nodeSelector: {role: master-node}\n      volumes:")
    )
    kubectl("wait", "--for=condition=complete", "job/restore", "--timeout=300s")
    restored = kubectl("logs", "job/restore").splitlines()[-1]
    say(f"   jobs|chunks in the database: {kept}, in the restored one: {restored}")
    if restored != kept:
        raise SystemExit("the restored database is another one")
    psql = ("exec", "postgres-0", "--", "psql", "-h", "/var/run/postgresql", "-U", "dccf", "-d", "postgres", "-c")
    kubectl(*psql, "DROP DATABASE dccf WITH (FORCE)")
    kubectl(*psql, "ALTER DATABASE dccf_restored RENAME TO dccf")
    for part, count in zip(WRITERS, (2, 1, 3, 1), strict=True):
        kubectl("scale", part, f"--replicas={count}")
    for part in WRITERS:
        kubectl("rollout", "status", part, "--timeout=400s")
    wait_for("the API is ready on the restored database", client_answers(client))
    jobs.check(client, [client.job(job_id) for job_id in jobs.expected])
    say(f"   {len(jobs.expected)} jobs and their files are there")
    jobs.check(client, jobs.submit(client, 2, seconds=1))


def lose_a_node(client: Client, jobs: Jobs) -> None:
    """Pull a node's plug: what ran there must be declared lost, and end on a worker elsewhere."""
    handles = jobs.submit(client, 6, seconds=10)
    nodes = {pod: node_of(pod) for pod in pods("worker")}
    if len(set(nodes.values())) < 2:
        raise SystemExit(f"all workers are on one node: {nodes}")
    running = "SELECT worker FROM job WHERE state = 'running'"
    wait_for("a job runs", lambda: sql(running))
    victim = nodes[sql(running).splitlines()[0]]
    say(f"   stopping {victim}, which has the workers {[pod for pod, node in nodes.items() if node == victim]}")
    cluster("stop", victim.removeprefix("node"))
    jobs.check(client, handles)
    lost = [handle for handle in handles if any(one.reason == "worker_lost" for one in handle.attempts())]
    if not lost:
        raise SystemExit("no job names an attempt of the workers that are gone")
    began = lost[0].history()[0].at
    for event in lost[0].history():
        say(f"   {(event.at - began).total_seconds():5.1f} s {event.state.value}: {event.message}")
    for handle in lost:
        outcomes = [(one.outcome, one.reason and one.reason.value) for one in handle.attempts()]
        if outcomes[0] != ("failed", "worker_lost") or outcomes[-1] != ("succeeded", None):
            raise SystemExit(f"job {handle.id} has the attempts {outcomes}")
    say(f"   {len(lost)} jobs lost their worker, and succeeded in another attempt")


def count(jobs: Jobs) -> None:
    """Hold what PostgreSQL says against what was submitted."""
    states = sql("SELECT state, count(*) FROM job GROUP BY state")
    once = "SELECT job_id FROM attempt WHERE outcome = 'succeeded' GROUP BY job_id HAVING count(*) = 1"
    accepted = sql(f"SELECT count(*) FROM ({once})")
    others = sql("SELECT reason, count(*) FROM attempt WHERE outcome <> 'succeeded' GROUP BY reason ORDER BY reason")
    total = len(jobs.expected) + 1  # and the demo
    say(f"   {total} jobs submitted; {states}; {accepted} with one accepted attempt")
    say(f"   other attempts, by reason: {' '.join(others.split()) or 'none'}")
    if states != f"succeeded|{total}" or accepted != str(total):
        raise SystemExit("a job was lost, or accepted twice")


def steps(client: Client, jobs: Jobs) -> dict[str, Callable[[], None]]:
    """Name the parts of the whole test, in order."""
    return {
        "kill the worker's pod, a broker's, the API's, in the middle of jobs": lambda: break_things(client, jobs),
        "scale: workers 1 -> 3, API 1 -> 2; submit to one API, read from the other": lambda: scale(jobs),
        "a fourth broker, and the queue moves to it": lambda: move_queue(client, jobs),
        "roll the workers while they have jobs": lambda: roll(client, jobs),
        "back up, destroy the database, restore it": lambda: restore(client, jobs),
        "lose a node with running jobs": lambda: lose_a_node(client, jobs),
        "count": lambda: count(jobs),
    }


def main(overlay: str) -> None:
    """Install an overlay and run the demo; with ``original`` do everything else too."""
    began = time.monotonic()
    with step("install: apply, and wait until everything is available"):
        install()
    port = kubectl("get", "service", "api", "-o", "jsonpath={.spec.ports[0].nodePort}")
    with Client(forward(f"{NODE_ADDRESS}:{port}"), token()) as client:
        with step("the demo through the Service"):
            demo(client)
        say(f"   from an empty cluster to the first result: {time.monotonic() - began:.0f} s")
        with step("the firewall of the jobs' daemon"):
            check_firewall()
        if overlay != "original":
            return
        for title, part in steps(client, Jobs()).items():
            with step(title):
                part()
    say("every job ended once; 0 lost")


if __name__ == "__main__":
    main(sys.argv[1])
