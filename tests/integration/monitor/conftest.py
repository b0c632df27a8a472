"""Flower and a controller as real processes on a real Kafka; each test starts a worker with a queue of its own."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from dccf.celery_app import DccfCelery, messages
from dccf.config import Settings
from dccf.lifecycle.ids import new_job_id
from dccf.lifecycle.intake import Intake
from dccf.lifecycle.submit import submit
from dccf.local.kafka import KafkaCluster
from dccf.models import Job, JobSpec
from dccf.store import jobs
from dccf.store.database import Database
from dccf.store.jobs import NewJob
from tests.acceptance.conftest import free_port
from tests.conftest import drop_database, make_database, require_kafka
from tests.processes import DccfProcess, wait_for


@dataclass(frozen=True)
class Flower:
    """A running Flower, the stack around it, and jobs to look at."""

    port: int
    folder: Path
    environment: dict[str, str]
    process: DccfProcess
    database: Database

    def get(self, path: str, **query: Any) -> Any:
        """Ask the HTTP API."""
        return json.loads(self.page(path, **query))

    def page(self, path: str, **query: Any) -> str:
        """Fetch a page."""
        url = f"http://127.0.0.1:{self.port}{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=20) as answer:
            return str(answer.read().decode())

    def press(self, path: str, **form: Any) -> Any:
        """Do what a button does."""
        body = urllib.parse.urlencode(form).encode()
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", body, timeout=20) as answer:
            return json.load(answer)

    def settings(self) -> Settings:
        names = {name.removeprefix("DCCF_").lower(): value for name, value in self.environment.items()}
        return Settings.model_validate(names)

    def submit(self, queue: str, sleep_seconds: float = 0) -> UUID:
        """Make a job; the controller sends its hint."""
        celery = DccfCelery("test")
        celery.__dict__["settings"] = self.settings()
        intake = Intake(self.database, celery.settings)
        intake.add("Dockerfile", b"FROM busybox\n")
        intake.finish()
        env = {"DCCF_FAKE_SLEEP_SECONDS": str(sleep_seconds), "PASSWORD": "hush"}
        job_id, spec = new_job_id(), JobSpec(queue=queue, env=env, labels={"kind": "nightly"})
        with self.database.begin() as tx:
            new = NewJob(
                id=job_id,
                owner="ann",
                spec=spec,
                bundle_id=intake.make_bundle(tx, "ann"),
                inputs=(),
                celery_message=messages.for_job(celery, job_id, "ann", spec),
                has_continuation=False,
                max_attempts=3,
            )
            submit(tx, celery.settings, new)
        return job_id

    def job(self, job_id: UUID) -> Job:
        with self.database.begin() as tx:
            found = jobs.get(tx, job_id)
        assert found is not None
        return found


@dataclass(frozen=True)
class Worker:
    """A running worker."""

    name: str
    queue: str
    process: DccfProcess


@pytest.fixture(scope="module")
def flower(postgres_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flower]:
    require_kafka()
    folder = tmp_path_factory.mktemp("monitor")
    database_name, url = make_database(postgres_url, template)
    database = Database(url)
    port = free_port()
    with KafkaCluster(folder / "kafka") as kafka:
        environment = {
            "DCCF_DATABASE_URL": url,
            "DCCF_BROKER_URL": f"kafka://{kafka.bootstrap_servers}",
            "DCCF_STATE_FOLDER": str(folder),
            "DCCF_RUNNER": "fake",
            "DCCF_WORKER_SLOTS": "2",
            "DCCF_SWEEP_SECONDS": "0.2",
            "DCCF_SHUTDOWN_GRACE_SECONDS": "0",
            "DCCF_FLOWER_PORT": str(port),
        }
        controller = DccfProcess(["controller"], environment, folder / "controller.log")
        process = DccfProcess(["flower"], environment, folder / "flower.log")
        try:
            wait_for("Flower", lambda: "Visit me at" in process.log_text())
            yield Flower(port, folder, environment, process, database)
        finally:
            process.stop()
            controller.stop()
    database.close()
    drop_database(postgres_url, database_name)


@pytest.fixture
def start_worker(flower: Flower) -> Iterator[Callable[[str], Worker]]:
    """Start a worker on a queue; it is seen by Flower when this returns."""
    started: list[DccfProcess] = []

    def start(queue: str) -> Worker:
        environment = {**flower.environment, "DCCF_WORKER_NAME": f"worker-{queue}", "DCCF_WORKER_QUEUES": queue}
        process = DccfProcess(["worker"], environment, flower.folder / f"{queue}.log")
        started.append(process)
        name = f"dccf@worker-{queue}"
        wait_for("the worker in Flower", lambda: name in flower.get("/api/workers", refresh=1))
        return Worker(name, queue, process)

    yield start
    for process in started:
        process.stop()


@pytest.fixture
def queue() -> str:
    return f"q-{uuid.uuid4().hex[:8]}"
