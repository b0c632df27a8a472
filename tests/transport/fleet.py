"""Worker processes on one queue, what was sent to them, and what their tasks noted.

`DCCF_FAULT_TASKS` is the number of tasks of a test (200), `DCCF_FAULT_SHARED_TASKS` of those that look at fairness
(3,000), `DCCF_FAULT_OUTAGE_SECONDS` the length of an outage (20). `scripts/soak transport` sets larger ones.
"""

import collections
import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError

import dccf.transport

from .kafkahelp import close_pools, unique, url
from .waiting import wait_until

TASKS = int(os.environ.get("DCCF_FAULT_TASKS", "200"))
SHARED_TASKS = int(os.environ.get("DCCF_FAULT_SHARED_TASKS", "3000"))
OUTAGE_SECONDS = float(os.environ.get("DCCF_FAULT_OUTAGE_SECONDS", "20"))

#: One line for each fleet of this run, for the summary at its end.
figures: list[str] = []


class Fleet:
    """Workers on one queue, and what their tasks noted."""

    def __init__(self, servers: str, folder: Path, name: str) -> None:
        dccf.transport.register()
        self.name = name
        self.folder = folder
        self.notes = folder / "notes"
        self.notes.touch()
        self.environment = os.environ | {
            "FAULT_BROKER": url(servers, "faults"),
            "FAULT_QUEUE": unique("faults"),
            "FAULT_FILE": str(self.notes),
        }
        self.queue = self.environment["FAULT_QUEUE"]
        self.app: Any = Celery(broker=self.environment["FAULT_BROKER"], set_as_current=False)
        self.app.conf.task_default_queue = self.queue
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self.sent: set[int] = set()
        self.refused: set[int] = set()
        self._numbers = itertools.count()

    def be_patient(self) -> None:
        """Let a publish wait for as long as a broker may take to start on a busy machine; call it first of all.

        120 s are what Kafka's own producer waits (`delivery.timeout.ms`), and twice what `KafkaCluster` gives a node
        to start: with less, a slow machine would fail a test that is about loss.
        """
        self.app.conf.broker_transport_options = {"delivery_timeout_ms": 120_000}

    def start(self, name: str, concurrency: int = 2) -> subprocess.Popen[bytes]:
        """Start a worker and wait until it answers."""
        worker = self.launch(name, concurrency)
        self.wait_for(name)
        return worker

    def launch(self, name: str, concurrency: int = 2) -> subprocess.Popen[bytes]:
        """Start a worker."""
        command = [sys.executable, "-m", "celery", "-A", "fault_app", "worker", "-l", "INFO", "--without-gossip"]
        with (self.folder / f"{name}.log").open("wb") as log:
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

    def wait_for(self, name: str) -> None:
        """Wait until a worker answers."""
        wait_until(lambda: self.app.control.ping([f"{name}@here"], timeout=1, limit=1), 60)

    def send(self, count: int, seconds: float = 0.0, every_seconds: float = 0.0) -> None:
        """Send tasks; remember those that Kafka confirmed. Several threads may send."""
        for number in itertools.islice(self._numbers, count):
            self._send(number, seconds)
            time.sleep(every_seconds)

    def send_until(self, deadline: float, seconds: float, every_seconds: float) -> None:
        """Send tasks until a time of the monotonic clock."""
        while time.monotonic() < deadline:
            self._send(next(self._numbers), seconds)
            time.sleep(every_seconds)

    def _send(self, number: int, seconds: float) -> None:
        try:
            self.app.send_task("note", (number, seconds))
        except OperationalError:
            self.refused.add(number)
        else:
            self.sent.add(number)

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
        """End all workers, and note the figures."""
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
        close_pools(self.app)
        dccf.transport.close_clients()
        figures.append(
            f"{self.name}: {len(self.sent)} confirmed, {len(self.refused)} raised, "
            f"{len(self.sent - self.ended())} lost, {self.duplicates()} started again"
        )
