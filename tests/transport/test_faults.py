"""Celery workers and brokers that die: nothing is lost. `DCCF_FAULT_TASKS` makes the runs longer."""

import collections
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from kombu import pools
from kombu.exceptions import OperationalError

import dccf.transport
from dccf.local.kafka import KafkaCluster

from .kafkahelp import unique, url
from .waiting import wait_until

_pools: Any = pools

pytestmark = pytest.mark.kafka

TASKS = int(os.environ.get("DCCF_FAULT_TASKS", "200"))


class Fleet:
    """Workers on one queue, and what their tasks noted."""

    def __init__(self, servers: str, folder: Path) -> None:
        dccf.transport.register()
        self.notes = folder / "notes"
        self.notes.touch()
        self.folder = folder
        self.environment = os.environ | {
            "FAULT_BROKER": url(servers, "faults"),
            "FAULT_QUEUE": unique("faults"),
            "FAULT_FILE": str(self.notes),
        }
        self.app: Any = Celery(broker=self.environment["FAULT_BROKER"], set_as_current=False)
        self.app.conf.task_default_queue = self.environment["FAULT_QUEUE"]
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self.sent: set[int] = set()
        self.refused = 0

    def start(self, name: str, concurrency: int = 2) -> subprocess.Popen[bytes]:
        """Start a worker and wait until it answers."""
        worker = self.launch(name, concurrency)
        self.wait_for(name)
        return worker

    def wait_for(self, name: str) -> None:
        """Wait until a worker answers."""
        wait_until(lambda: self.app.control.ping([f"{name}@here"], timeout=1, limit=1), 60)

    def launch(self, name: str, concurrency: int = 2) -> subprocess.Popen[bytes]:
        """Start a worker."""
        log = (self.folder / f"{name}.log").open("wb")
        command = [sys.executable, "-m", "celery", "-A", "fault_app", "worker", "-l", "INFO", "--without-gossip"]
        with log:
            worker = subprocess.Popen(
                [*command, "--without-mingle", "-c", str(concurrency), "-n", f"{name}@here"],
                cwd=Path(__file__).parent,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.workers[name] = worker
        return worker

    def send(self, count: int, seconds: float = 0.0, every_seconds: float = 0.0) -> None:
        """Send tasks; remember those that Kafka confirmed."""
        for _ in range(count):
            number = len(self.sent) + self.refused
            try:
                self.app.send_task("note", (number, seconds))
            except OperationalError:
                self.refused += 1
            else:
                self.sent.add(number)
            time.sleep(every_seconds)

    def lines(self, kind: str) -> list[list[str]]:
        """Return the notes of one kind."""
        return [line.split() for line in self.notes.read_text().splitlines() if line.startswith(kind)]

    def ended(self) -> set[int]:
        """Return the tasks that ended at least once."""
        return {int(line[1]) for line in self.lines("end")}

    def wait_for_all(self, timeout_seconds: float = 90) -> None:
        """Fail if a confirmed task is lost."""
        wait_until(lambda: self.sent <= self.ended(), timeout_seconds, 0.1)

    def duplicates(self) -> int:
        """Return how many starts were not the first of their task."""
        starts = collections.Counter(line[1] for line in self.lines("start"))
        return sum(starts.values()) - len(starts)

    def stop(self) -> None:
        """End all workers."""
        for worker in self.workers.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(worker.pid, signal.SIGCONT)
                worker.terminate()
        for worker in self.workers.values():
            try:
                worker.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(worker.pid, signal.SIGKILL)
                worker.wait()
        # kombu keeps pools per URL for the whole process; the next fleet needs new ones.
        _pools.reset()
        dccf.transport.close_clients()


@pytest.fixture
def fleet(kafka: KafkaCluster, tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(kafka.bootstrap_servers, tmp_path)
    yield made
    made.stop()


@pytest.fixture
def own_kafka(kafka_installed: None, tmp_path: Path) -> Iterator[KafkaCluster]:
    with KafkaCluster(tmp_path / "kafka") as cluster:
        yield cluster


def test_tasks_run_and_remote_control_works(fleet: Fleet) -> None:
    worker = fleet.start("plain")
    fleet.send(TASKS)
    fleet.wait_for_all()
    inspect = fleet.app.control.inspect(["plain@here"], timeout=5, limit=1)

    assert inspect.stats()["plain@here"]["total"] == {"note": TASKS}
    assert fleet.duplicates() == 0
    assert fleet.app.control.rate_limit("note", "100/s", reply=True, timeout=5, limit=1)
    fleet.app.control.shutdown(["plain@here"])
    assert worker.wait(30) == 0


def test_a_revoked_task_never_runs(fleet: Fleet) -> None:
    fleet.start("revoking", concurrency=1)
    fleet.send(1, seconds=3)
    wait_until(lambda: fleet.lines("start"))
    victim = fleet.app.send_task("note", (999, 0.0))
    victim.revoke()
    fleet.send(1)
    fleet.wait_for_all()

    assert 999 not in fleet.ended()


def test_the_kill_of_a_worker_loses_nothing(fleet: Fleet) -> None:
    victim = fleet.start("victim")
    fleet.start("survivor")
    fleet.send(TASKS, seconds=0.05)
    wait_until(lambda: len(fleet.lines("start")) > TASKS // 10)
    os.killpg(victim.pid, signal.SIGKILL)

    fleet.wait_for_all()

    assert fleet.duplicates() <= 20


def test_the_kill_of_a_main_process_frees_its_tasks_at_once(fleet: Fleet) -> None:
    victim = fleet.start("victim", concurrency=1)
    fleet.send(1, seconds=5)
    wait_until(lambda: fleet.lines("start"))
    fleet.start("survivor", concurrency=1)
    os.kill(victim.pid, signal.SIGKILL)

    wait_until(lambda: len(fleet.lines("start")) == 2, 10)
    os.killpg(victim.pid, signal.SIGKILL)


def test_the_kill_of_a_pool_process_loses_nothing(fleet: Fleet) -> None:
    fleet.start("pool")
    fleet.send(TASKS, seconds=0.05)
    wait_until(lambda: len(fleet.lines("start")) > TASKS // 10)
    os.kill(int(fleet.lines("start")[-1][2]), signal.SIGKILL)

    fleet.wait_for_all()


def test_a_worker_that_stands_still_longer_than_the_lock_loses_nothing(fleet: Fleet) -> None:
    victim = fleet.start("frozen")
    fleet.send(TASKS, seconds=0.05)
    wait_until(lambda: len(fleet.lines("start")) > TASKS // 10)
    os.killpg(victim.pid, signal.SIGSTOP)
    fleet.start("awake")

    fleet.wait_for_all()
    os.killpg(victim.pid, signal.SIGCONT)

    fleet.send(10)
    fleet.wait_for_all()
    assert victim.poll() is None


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_the_restart_of_the_broker_loses_nothing(own_kafka: KafkaCluster, tmp_path: Path, how: str) -> None:
    fleet = Fleet(own_kafka.bootstrap_servers, tmp_path)
    try:
        worker = fleet.start("steady")
        sender = threading.Thread(target=fleet.send, args=(TASKS, 0.02, 0.02))
        sender.start()
        wait_until(lambda: len(fleet.ended()) > TASKS // 10)
        if how == "kill":
            own_kafka.kill()
        else:
            own_kafka.stop_node()
        own_kafka.restart()
        sender.join()

        fleet.wait_for_all()

        assert worker.poll() is None
        assert fleet.refused == 0, "the outage was shorter than the time a publish may take"
    finally:
        fleet.stop()


def test_a_task_of_four_locks_runs_once(fleet: Fleet) -> None:
    fleet.start("long", concurrency=1)
    fleet.start("other", concurrency=1)
    fleet.send(1, seconds=62)
    fleet.wait_for_all(90)

    assert len(fleet.lines("start")) == 1
