"""A worker with two slots and a controller as real processes, on the file broker and the fake runner."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from celery.canvas import Signature

from dccf.celery_app import app
from dccf.models import Job
from dccf.store import jobs
from dccf.tasks import run_dockerfile
from tests.acceptance.conftest import free_port
from tests.conftest import drop_database, make_database
from tests.processes import DccfProcess, wait_for


@pytest.fixture(scope="session")
def fleet_environment(postgres_url: str, template: str) -> Iterator[dict[str, str]]:
    """Settings of the processes; this process's own Celery application gets the same."""
    folder = Path(tempfile.mkdtemp(prefix="dccf-test-tasks-"))
    for name in ("messages", "control"):
        (folder / name).mkdir()
    name, url = make_database(postgres_url, template)
    environment = {
        "DCCF_DATABASE_URL": url,
        "DCCF_BROKER_URL": "filesystem://localhost",
        "DCCF_BROKER_FOLDER": str(folder),
        "DCCF_STATE_FOLDER": str(folder),
        "DCCF_RUNNER": "fake",
        "DCCF_WORKER_NAME": "tasks-worker",
        "DCCF_WORKER_SLOTS": "2",
        "DCCF_HINT_RESEND_SECONDS": "1",
        "DCCF_RETRY_BACKOFF_SECONDS": "0",
        "DCCF_SHUTDOWN_GRACE_SECONDS": "0",
        "DCCF_LEASE_SECONDS": "15",
        "DCCF_LEASE_RENEW_SECONDS": "2",
    }
    kept = {key: os.environ[key] for key in environment if key in os.environ}
    os.environ.update(environment)
    assert app.settings.worker_name == "tasks-worker", "the application was configured before these tests"
    yield environment
    for key in environment:
        os.environ.pop(key)
    os.environ.update(kept)
    app.database.close()
    drop_database(postgres_url, name)
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def metrics_ports() -> dict[str, int]:
    """Where the processes tell their figures."""
    return {"controller": free_port(), "worker": free_port()}


@pytest.fixture(scope="session")
def controller(fleet_environment: dict[str, str], metrics_ports: dict[str, int]) -> Iterator[DccfProcess]:
    environment = {**fleet_environment, "DCCF_METRICS_PORT": str(metrics_ports["controller"])}
    process = DccfProcess(["controller"], environment, Path(fleet_environment["DCCF_BROKER_FOLDER"], "c.log"))
    yield process
    process.stop()


@pytest.fixture(scope="session")
def worker(
    fleet_environment: dict[str, str], controller: DccfProcess, metrics_ports: dict[str, int]
) -> Iterator[DccfProcess]:
    environment = {**fleet_environment, "DCCF_METRICS_PORT": str(metrics_ports["worker"])}
    process = DccfProcess(["worker"], environment, Path(fleet_environment["DCCF_BROKER_FOLDER"], "w.log"))
    yield process
    process.stop()


@pytest.fixture
def scripted(fleet_environment: dict[str, str]) -> Callable[..., Signature]:
    """A signature whose result the fake runner plays: keywords are its script."""

    def make(**script: Any) -> Signature:
        env = {f"DCCF_FAKE_{name.upper()}": str(value) for name, value in script.items()}
        return run_dockerfile.s(dockerfile="FROM busybox\n", env=env)

    return make


@pytest.fixture
def job_of(fleet_environment: dict[str, str]) -> Callable[[str], Job]:
    def get(task_id: str) -> Job:
        with app.database.begin() as tx:
            job = jobs.get(tx, UUID(task_id))
        assert job is not None
        return job

    return get


@pytest.fixture
def until(job_of: Callable[[str], Job]) -> Callable[[str, Callable[[Job], bool]], Job]:
    """Wait until a job is as a condition wants it."""

    def wait(task_id: str, condition: Callable[[Job], bool]) -> Job:
        def look() -> Job | None:
            job = job_of(task_id)
            return job if condition(job) else None

        return wait_for(f"job {task_id}", look)

    return wait
