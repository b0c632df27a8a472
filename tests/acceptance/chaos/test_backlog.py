"""A queue under pressure: Kafka away while people submit, and one owner's burst before another's job.

API, Kafka, PostgreSQL, controller and worker are real processes; jobs are the fake runner's, so that only what
brings a job to its worker is measured. ``scripts/soak backlog`` makes it longer.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from dccf.api import tokens
from dccf.client import Client
from dccf.config import Settings
from dccf.local.kafka import KafkaCluster
from dccf.store.database import Database
from dccf.transport.names import Names
from tests.acceptance.conftest import free_port
from tests.conftest import require_kafka
from tests.processes import DccfProcess, wait_for
from tests.transport.kafkahelp import end_offset

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]

OUTAGE_SECONDS = float(os.environ.get("BACKLOG_OUTAGE_SECONDS", "15"))
OUTAGE_JOBS = int(os.environ.get("BACKLOG_OUTAGE_JOBS", "100"))
BURST_JOBS = int(os.environ.get("BACKLOG_BURST_JOBS", "200"))
#: Jobs of the other owner, one after the other while the burst waits.
OTHERS = 6
SLOTS = 2
PEPPER = "pepper"
DOCKERFILE = "FROM busybox\n"
_SECONDS_A_JOB = 1.0


class Fleet:
    """An API, a controller and a worker with two slots on one Kafka."""

    def __init__(self, database: Database, kafka: KafkaCluster, folder: Path) -> None:
        self.database = database
        self._port = free_port()
        environment = {
            "DCCF_DATABASE_URL": database.url,
            "DCCF_BROKER_URL": f"kafka://{kafka.bootstrap_servers}",
            "DCCF_STATE_FOLDER": str(folder),
            "DCCF_API_PORT": str(self._port),
            "DCCF_TOKEN_PEPPER": PEPPER,
            "DCCF_RUNNER": "fake",
            "DCCF_WORKER_SLOTS": str(SLOTS),
            "DCCF_WORKER_NAME": "backlog",
        }
        self._settings = Settings(database_url=database.url, broker_url="memory://", token_pepper=PEPPER)
        self.processes = [
            DccfProcess([name], environment, folder / f"{name}.log") for name in ("api", "controller", "worker")
        ]

    def client(self, owner: str) -> Client:
        token = tokens.create(self.database, self._settings, owner, "test")
        return Client(f"http://127.0.0.1:{self._port}", token)

    def wait_until_ready(self) -> None:
        with self.client("nobody") as client:
            wait_for("the API", lambda: "Listening at" in self.processes[0].log_text())
            ready = ("ok", "ok", "ok", "ok")
            wait_for("all to be ready", lambda: states(client.readiness()) == ready)

    def count(self, condition: str) -> int:
        with self.database.begin() as tx:
            return int(tx.execute(text(f"SELECT count(*) FROM job WHERE {condition}")).scalar_one())


def states(readiness: dict[str, dict[str, dict[str, str]]]) -> tuple[str, ...]:
    return tuple(check["status"] for check in readiness["checks"].values())


@pytest.fixture
def kafka(tmp_path: Path) -> Iterator[KafkaCluster]:
    require_kafka()
    with KafkaCluster(tmp_path / "kafka") as cluster:
        yield cluster


@pytest.fixture
def fleet(database: Database, kafka: KafkaCluster, tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(database, kafka, tmp_path)
    try:
        made.wait_until_ready()
        yield made
    finally:
        for process in made.processes:
            process.stop()


class Watch:
    """Looks every tenth of a second at how many hints are out, and keeps the most."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.most_hinted = 0

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(0.1):
            self.most_hinted = max(self.most_hinted, self._fleet.count("state = 'queued' AND hints > 0"))


@contextmanager
def away(kafka: KafkaCluster) -> Iterator[None]:
    """No broker for as long as the outage is to last, however fast the block is."""
    kafka.stop()
    until = time.monotonic() + OUTAGE_SECONDS
    yield
    time.sleep(max(0.0, until - time.monotonic()))  # the outage itself, not a wait for something
    kafka.start()


def test_what_is_submitted_while_kafka_is_away_runs_once_and_comes_in_no_flood(
    fleet: Fleet, kafka: KafkaCluster
) -> None:
    slowest = 0.0
    with fleet.client("ann") as client, Watch(fleet) as watch:
        with away(kafka):
            started = time.monotonic()
            for _ in range(OUTAGE_JOBS):
                asked = time.monotonic()
                client.submit(DOCKERFILE)
                slowest = max(slowest, time.monotonic() - asked)
            took = time.monotonic() - started
        assert fleet.count("fence = 0") == OUTAGE_JOBS
        back = time.monotonic()
        wait_for("the first job to end", lambda: fleet.count("state = 'succeeded'"), 120)
        first = time.monotonic() - back
        wait_for("all jobs to end", lambda: fleet.count("state = 'succeeded'") == OUTAGE_JOBS, 60 + OUTAGE_JOBS)
        drained = time.monotonic() - back
    sent = end_offset(kafka.bootstrap_servers, Names().queue_topic("default"))
    print(
        f"{OUTAGE_JOBS} submits without Kafka in {took:.0f} s, the slowest in {slowest:.2f} s; away for "
        f"{OUTAGE_SECONDS:g} s; first end {first:.1f} s after its return, all after {drained:.0f} s; "
        f"at most {watch.most_hinted} hints out, {sent} messages for {OUTAGE_JOBS} jobs"
    )
    assert fleet.count("fence = 1") == OUTAGE_JOBS
    assert watch.most_hinted <= SLOTS
    # A hint more than jobs for each slot whose hint was thought to be sent when the broker went away.
    assert sent <= OUTAGE_JOBS + OUTAGE_JOBS // 10


def test_a_burst_of_one_owner_keeps_another_waiting_for_a_job_a_slot_at_most(fleet: Fleet) -> None:
    env = {"DCCF_FAKE_SLEEP_SECONDS": f"{_SECONDS_A_JOB:g}"}
    with fleet.client("burst") as client, fleet.client("other") as other, Watch(fleet) as watch:
        for _ in range(BURST_JOBS):
            client.submit(DOCKERFILE, env=env)
        assert fleet.count("owner = 'burst' AND state = 'queued'") > 2 * OTHERS * SLOTS
        for _ in range(OTHERS):
            handle = other.submit(DOCKERFILE)
            wait_for("the other owner's job to end", lambda one=handle: one.refresh().state.is_final)  # type: ignore[misc]
    with fleet.database.begin() as tx:
        rows = list(tx.execute(text(_WAITS)))
    waits, before = sorted(float(row.seconds) for row in rows), [int(row.before) for row in rows]
    print(
        f"{BURST_JOBS} jobs of {_SECONDS_A_JOB:g} s in a burst, {SLOTS} slots: {OTHERS} jobs of another owner waited "
        f"{waits[len(waits) // 2]:.2f} s in the middle, {waits[-1]:.2f} s at most; "
        f"{max(before)} of the burst began before one of them at most; at most {watch.most_hinted} hints out"
    )
    assert len(rows) == OTHERS
    # What was with the broker already, one hint a slot, and what the free places were given to just then.
    assert max(before) <= 2 * SLOTS
    assert watch.most_hinted <= SLOTS


_WAITS = """
    SELECT extract(epoch FROM mine.claimed_at - job.created_at) AS seconds,
        (SELECT count(*) FROM attempt theirs JOIN job burst ON burst.id = theirs.job_id WHERE burst.owner = 'burst'
            AND theirs.claimed_at > job.created_at AND theirs.claimed_at < mine.claimed_at) AS before
    FROM job JOIN attempt mine ON mine.job_id = job.id WHERE job.owner = 'other'
"""
