"""The cluster of the end-to-end test, as its steps use it: kubectl, PostgreSQL, Kafka, waiting with an end."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dccf.client import Client, JobHandle

NAMESPACE = "dccf"
REPOSITORY = Path(__file__).parents[2]
NODE_ADDRESS = "10.89.0.1"  # any node's answers for a NodePort; this one is not stopped
QUEUE_TOPIC = "dccf.q.default"
JOB_SECONDS = 600.0
COMMAND_SECONDS = 600.0  # above every --timeout that a step gives kubectl
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


def run(*command: str, given: str | None = None) -> str:
    """Run a program and give what it prints; one that fails or hangs ends the test with what it said."""
    try:
        done = subprocess.run(
            command, input=given, capture_output=True, text=True, check=False, timeout=COMMAND_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise SystemExit(f"{' '.join(command)} did not end within {COMMAND_SECONDS:g} s") from error
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout.strip()


def kubectl(*arguments: str, given: str | None = None) -> str:
    """Run kubectl in our namespace and give what it prints."""
    return run("kubectl", "--namespace", NAMESPACE, *arguments, given=given)


def cluster(*arguments: str) -> str:
    """Run k8s/e2e/cluster."""
    return run(os.environ["E2E_CLUSTER"], *arguments)


def sql(statement: str) -> str:
    """Ask PostgreSQL in its pod."""
    return kubectl(
        "exec", "postgres-0", "--", "psql", "-h", "/var/run/postgresql", "-U", "dccf", "-d", "dccf", "-Atc", statement
    )


def kafka(*arguments: str) -> str:
    """Run kafka-python's admin commands in an API's pod; give their JSON."""
    servers = [item for number in range(3) for item in ("-b", f"kafka-{number}.kafka-headless:9092")]
    command = ["python", "-m", "kafka.admin", *servers, "--format", "json", *arguments]
    return kubectl("exec", pods("api")[0], "--", *command)


def queue_partition() -> dict[str, Any]:
    """Ask Kafka for the one partition of the queue."""
    (topic,) = json.loads(kafka("topics", "describe", "--topic", QUEUE_TOPIC))
    partition: dict[str, Any] = topic["partitions"][0]
    return partition


def wait_for(what: str, check: Callable[[], object], seconds: float = 180.0) -> None:
    """Ask again until the answer is true; afterwards say what was waited for, and the last answer."""
    deadline = time.monotonic() + seconds
    while not (answer := check()):
        if time.monotonic() > deadline:
            raise SystemExit(f"waited {seconds:g} s in vain for: {what} (last answer: {answer!r})")
        time.sleep(0.5)


def forward(target: str) -> str:
    """Make an address of the cluster reachable on loopback; give its URL."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    # Not through run: the forwarder stays, and would keep a pipe open.
    subprocess.run([os.environ["E2E_CLUSTER"], "forward", str(port), target], check=True, timeout=30)

    def listens() -> bool:
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", port)) == 0

    wait_for(f"the forwarder to {target} listens", listens, 30.0)
    return f"http://127.0.0.1:{port}"


def pods(name: str) -> list[str]:
    """Name the pods of one part that are not being deleted."""
    rows = kubectl(
        "get", "pods", "-l", f"app.kubernetes.io/name={name}", "--no-headers",
        "-o", "custom-columns=N:.metadata.name,D:.metadata.deletionTimestamp,P:.status.phase",
    )  # fmt: skip
    return [row.split()[0] for row in rows.splitlines() if row.split()[1:] == ["<none>", "Running"]]


def node_of(pod: str) -> str:
    """Name the node that a pod is on."""
    return kubectl("get", "pod", pod, "-o", "jsonpath={.spec.nodeName}")


def kill(*names: str) -> None:
    """Delete pods without any grace."""
    say(f"   killing {' '.join(names)}")
    kubectl("delete", "pod", "--grace-period=0", "--force", *names)


def token() -> str:
    """Give the first token, from the secrets that were made for this cluster."""
    rows = dict(row.split("=", 1) for row in Path(os.environ["E2E_SECRETS"]).read_text().splitlines())
    return rows["DCCF_BOOTSTRAP_TOKEN"]


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
