"""The Docker daemon is away: jobs wait, say why, and run when it is back."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from dccf.config import Settings
from dccf.local.daemon import PrivateDaemon
from dccf.models import Job, JobState
from dccf.store import fleet, jobs
from dccf.store.database import Database
from tests.fixtures_docker import start_daemon
from tests.processes import DccfProcess, wait_for

pytestmark = [pytest.mark.postgres, pytest.mark.docker]


@pytest.fixture
def daemon_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="dccf-away-"))
    yield folder
    shutil.rmtree(folder)


def environment_of(settings: Settings, daemon: PrivateDaemon) -> dict[str, str]:
    return {
        "DCCF_DATABASE_URL": settings.database_url,
        "DCCF_BROKER_URL": settings.broker_url,
        "DCCF_BROKER_FOLDER": str(settings.broker_folder),
        "DCCF_STATE_FOLDER": str(settings.state_folder),
        "DCCF_WORKER_NAME": "away-worker",
        "DCCF_WORKER_SLOTS": "1",
        "DCCF_HINT_RESEND_SECONDS": "1",
        "DCCF_SHUTDOWN_GRACE_SECONDS": "0",
        "DCCF_DOCKER_URL": daemon.docker_url,
    }


def test_a_job_waits_for_the_daemon_and_runs_when_it_is_back(
    database: Database, settings: Settings, daemon_folder: Path, tmp_path: Path, submit_job_message: UUID
) -> None:
    daemon = PrivateDaemon(daemon_folder)
    environment = environment_of(settings, daemon)
    processes = [DccfProcess([name], environment, tmp_path / f"{name}.log") for name in ("controller", "worker")]
    try:
        reason = wait_for("the worker to say why it takes no jobs", lambda: trouble(database))
        assert "Docker daemon" in reason
        assert job_of(database, submit_job_message).state == JobState.QUEUED
        running = start_daemon(daemon_folder)
        try:
            wait_for("the job's end", lambda: job_of(database, submit_job_message).state is JobState.SUCCEEDED)
            wait_for("the worker to take jobs again", lambda: not trouble(database))
        finally:
            for process in processes:
                process.stop()
            running.stop()
    finally:
        for process in processes:
            process.stop()


def trouble(database: Database) -> str:
    with database.begin() as tx:
        return next((worker.message for worker in fleet.get_workers(tx)), "")


def job_of(database: Database, job_id: UUID) -> Job:
    with database.begin() as tx:
        job = jobs.get(tx, job_id)
    assert job is not None
    return job
