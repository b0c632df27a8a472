"""What scripts/e2e does on its cluster: install, use, break, scale, move, roll, back up; then count.

Every job writes its own number to ``/output``. At the end each one must have succeeded with that output, and
exactly one of its attempts must have been accepted.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dccf.client import Client, JobHandle

NAMESPACE = "dccf"
REPOSITORY = Path(__file__).parents[2]
NODE_ADDRESS = "10.89.0.2"  # any node's answers for a NodePort
QUEUE_TOPIC = "dccf.q.default"
JOB_SECONDS = 900.0
BEGAN = time.monotonic()


def say(text: str) -> None:
    """Print a line with the seconds since the start."""
    print(f"[{time.monotonic() - BEGAN:4.0f} s] {text}", flush=True)


@contextmanager
def step(title: str) -> Iterator[None]:
    """Announce a part, and say how long it took."""
    say(f"== {title}")
    began = time.monotonic()
    yield
    say(f"   done in {time.monotonic() - began:.0f} s")


def kubectl(*arguments: str, given: str | None = None) -> str:
    """Run kubectl in our namespace and give what it prints."""
    command = ["kubectl", "--namespace", NAMESPACE, *arguments]
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout.strip()


def sql(statement: str) -> str:
    """Ask PostgreSQL in its pod."""
    return kubectl(
        "exec", "postgres-0", "--", "psql", "-h", "/var/run/postgresql", "-U", "dccf", "-d", "dccf", "-Atc", statement
    )


def wait_for(what: str, check: Callable[[], bool], seconds: float = 180.0) -> None:
    """Ask again until something is so."""
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {seconds:g} s: {what}")
        time.sleep(0.5)


def forward(target: str) -> str:
    """Make an address of the cluster reachable on loopback; give its URL."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    subprocess.run([os.environ["E2E_CLUSTER"], "forward", str(port), target], check=True)
    return f"http://127.0.0.1:{port}"


def pods(name: str) -> list[str]:
    """Name the pods of one part that are not being deleted."""
    rows = kubectl(
        "get", "pods", "-l", f"app.kubernetes.io/name={name}", "--no-headers",
        "-o", "custom-columns=N:.metadata.name,D:.metadata.deletionTimestamp,P:.status.phase",
    )  # fmt: skip
    return [row.split()[0] for row in rows.splitlines() if row.split()[1:] == ["<none>", "Running"]]


class Jobs:
    """Submits jobs that write their own number, and remembers what each must have written."""

    def __init__(self) -> None:
        self.expected: dict[str, str] = {}

    def submit(self, client: Client, count: int, seconds: float) -> list[JobHandle]:
        """Submit jobs that run for some seconds each."""
        handles = []
        for _ in range(count):
            number = f"number {len(self.expected)}"
            dockerfile = f'FROM busybox\nCMD ["sh", "-c", "sleep {seconds:g}; echo {number} > /output/number"]\n'
            handle = client.submit(dockerfile, labels={"number": number.replace(" ", "-")})
            self.expected[handle.id] = number
            handles.append(handle)
        return handles

    def check(self, client: Client, handles: list[JobHandle]) -> None:
        """Wait for jobs, read them through this client, and compare what they wrote."""
        for handle in handles:
            mine = client.job(handle.id)
            mine.wait(JOB_SECONDS)
            mine.raise_for_status()
            wrote = b"".join(mine.read_artifact("number")).decode().strip()
            if wrote != self.expected[handle.id]:
                raise SystemExit(f"job {handle.id} wrote {wrote!r}, not {self.expected[handle.id]!r}")


def install() -> None:
    """Apply everything and wait until it can be used."""
    kubectl("apply", "-f", os.environ["E2E_MANIFEST"])
    kubectl("wait", "--for=condition=available", "deployment", "--all", "--timeout=300s")
    kubectl("rollout", "status", "statefulset/kafka", "--timeout=120s")


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
    say(f"   killing {kubectl('delete', 'pod', '--grace-period=0', '--force', *pods('worker'))}")
    handles += jobs.submit(client, 4, seconds=1)
    leader = leader_of_queue()
    killed = kubectl("delete", "pod", "--grace-period=0", "--force", f"kafka-{leader}")
    say(f"   killing the leader of the queue: {killed}")
    handles += jobs.submit(client, 4, seconds=1)
    say(f"   killing {kubectl('delete', 'pod', '--grace-period=0', '--force', *pods('api'))}")
    kubectl("rollout", "status", "deployment/api", "--timeout=180s")
    handles += jobs.submit(client, 4, seconds=1)
    jobs.check(client, handles)
    kubectl("rollout", "status", "statefulset/kafka", "--timeout=180s")


def queue_partition() -> dict[str, Any]:
    """Ask Kafka for the one partition of the queue."""
    (topic,) = json.loads(kafka("topics", "describe", "--topic", QUEUE_TOPIC))
    partition: dict[str, Any] = topic["partitions"][0]
    return partition


def leader_of_queue() -> int:
    """Give the broker that leads the queue's partition."""
    return int(queue_partition()["leader_id"])


def kafka(*arguments: str) -> str:
    """Run kafka-python's admin commands in an API's pod; give their JSON."""
    servers = [item for number in range(3) for item in ("-b", f"kafka-{number}.kafka-headless:9092")]
    command = ["python", "-m", "kafka.admin", *servers, "--format", "json", *arguments]
    return kubectl("exec", pods("api")[0], "--", *command)


def scale(jobs: Jobs) -> None:
    """Go from one worker to three and from one API to two; submit to one API, read from the other."""
    kubectl("scale", "deployment/worker", "--replicas=3")
    kubectl("scale", "deployment/api", "--replicas=2")
    for name in ("worker", "api"):
        kubectl("rollout", "status", f"deployment/{name}", "--timeout=240s")
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
    kubectl("rollout", "status", "statefulset/kafka", "--timeout=180s")
    handles = jobs.submit(client, 6, seconds=1)
    kafka("partitions", "alter-reassignments", "--reassign", f"{QUEUE_TOPIC}:0=3,0,1")
    wait_for("the queue is on broker 3", lambda: 3 in queue_partition()["isr_nodes"])
    # By itself the new first broker would take the lead at the next look, every five minutes.
    wait_for("the queue has left its old brokers", lambda: len(queue_partition()["replica_nodes"]) == 3)
    if leader_of_queue() != 3:
        kafka("partitions", "elect-leaders", "--topic-partition", f"{QUEUE_TOPIC}:0")
    wait_for("broker 3 leads the queue", lambda: leader_of_queue() == 3)
    handles += jobs.submit(client, 6, seconds=1)
    jobs.check(client, handles)


def roll(client: Client, jobs: Jobs) -> None:
    """Replace all workers while they have jobs; none may lose its attempt."""
    before = sql("SELECT count(*) FROM attempt")
    handles = jobs.submit(client, 12, seconds=4)
    old = set(pods("worker"))
    kubectl("rollout", "restart", "deployment/worker")
    kubectl("rollout", "status", "deployment/worker", "--timeout=400s")
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
    if len(answers) != len(targets) or not all("refused" in answer for answer in answers):
        raise SystemExit(f"a container with a network reached something: {answers}")


def back_up() -> None:
    """Make a dump as the nightly job does, restore it into a second database, compare."""
    kubectl("create", "job", "--from=cronjob/backup", "backup-now")
    kubectl("wait", "--for=condition=complete", "job/backup-now", "--timeout=120s")
    container = ".spec.jobTemplate.spec.template.spec.containers[0]"
    secret = f"{{{container}.env[?(@.name=='PGPASSWORD')].valueFrom.secretKeyRef.name}}"
    manifest = (REPOSITORY / "k8s" / "e2e" / "restore.yaml").read_text()
    name = kubectl("get", "cronjob", "backup", "-o", f"jsonpath={secret}")
    kubectl("apply", "-f", "-", given=manifest.replace("dccf-secrets", name))
    kubectl("wait", "--for=condition=complete", "job/restore", "--timeout=120s")
    restored = kubectl("logs", "job/restore").splitlines()[-1]
    kept = sql("SELECT (SELECT count(*) FROM job), (SELECT count(*) FROM blob_chunk)")
    say(f"   jobs|chunks in the database: {kept}, in the restored one: {restored}")
    if restored != kept:
        raise SystemExit("the restored database is another one")


def count(jobs: Jobs) -> None:
    """Hold what PostgreSQL says against what was submitted."""
    states = sql("SELECT state, count(*) FROM job GROUP BY state")
    once = "SELECT job_id FROM attempt WHERE outcome = 'succeeded' GROUP BY job_id HAVING count(*) = 1"
    accepted = sql(f"SELECT count(*) FROM ({once})")
    lost = sql("SELECT count(*) FROM attempt WHERE reason = 'worker_lost'")
    total = len(jobs.expected) + 1  # and the demo
    say(f"   {total} jobs submitted; {states}; {accepted} with one accepted attempt; {lost} attempts of lost workers")
    if states != f"succeeded|{total}" or accepted != str(total):
        raise SystemExit("a job was lost, or accepted twice")


def token() -> str:
    """Give the first token, from the secrets that were made for this cluster."""
    rows = dict(row.split("=", 1) for row in Path(os.environ["E2E_SECRETS"]).read_text().splitlines())
    return rows["DCCF_BOOTSTRAP_TOKEN"]


def main() -> None:
    """Run every part in order."""
    jobs = Jobs()
    with step("install: apply, and wait until everything is available"):
        install()
    port = kubectl("get", "service", "api", "-o", "jsonpath={.spec.ports[0].nodePort}")
    with Client(forward(f"{NODE_ADDRESS}:{port}"), token()) as client:
        with step("the demo through the Service"):
            demo(client)
        with step("kill the worker's pod, a broker's, the API's, in the middle of jobs"):
            break_things(client, jobs)
        with step("scale: workers 1 -> 3, API 1 -> 2; submit to one API, read from the other"):
            scale(jobs)
        with step("a fourth broker, and the queue moves to it"):
            move_queue(client, jobs)
        with step("roll the workers while they have jobs"):
            roll(client, jobs)
        with step("the firewall of the jobs' daemon"):
            check_firewall()
        with step("back up, and restore into another database"):
            back_up()
        with step("count"):
            count(jobs)
    say("every job ended once; 0 lost")


if __name__ == "__main__":
    main()
