"""kill -9 of a real worker on a real daemon: its container goes on in the same attempt, watched by the next life."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from dccf.celery_app import DccfCelery, messages
from dccf.config import Settings
from dccf.lifecycle import cancel
from dccf.lifecycle.ids import new_job_id
from dccf.lifecycle.intake import Intake
from dccf.lifecycle.submit import submit
from dccf.models import Job, JobSpec, JobState, Stream
from dccf.runner.engine import Engine
from dccf.runner.spec import JOB_LABEL
from dccf.store import artifacts, history, jobs, logs
from dccf.store.database import Database
from dccf.store.jobs import NewJob
from tests.fixtures_docker import docker_daemon, docker_url
from tests.processes import DccfProcess, wait_for

__all__ = ["docker_daemon", "docker_url"]

pytestmark = [pytest.mark.postgres, pytest.mark.docker]

#: Seconds from the start of the worker's next life until it goes on with an attempt.
ADOPTED_SECONDS = 5.0
LINES = 60
DOCKERFILE = (
    f"FROM busybox\nCMD i=0; while [ $i -lt {LINES} ]; do i=$((i+1)); echo line $i; usleep 100000; done; "
    "echo all > /output/done; exit 7\n"
)


class Site:
    """A worker and a controller with their own state, and what the store says of a job."""

    def __init__(self, database: Database, settings: Settings, docker_url: str, folder: Path) -> None:
        self.database, self.settings, self.docker_url = database, settings, docker_url
        environment = {
            "DCCF_DATABASE_URL": settings.database_url,
            "DCCF_BROKER_URL": settings.broker_url,
            "DCCF_BROKER_FOLDER": str(settings.broker_folder),
            "DCCF_STATE_FOLDER": str(settings.state_folder),
            "DCCF_WORKER_NAME": "killed-worker",
            "DCCF_WORKER_SLOTS": "1",
            "DCCF_SELF_TEST": "off",
            "DCCF_SHUTDOWN_GRACE_SECONDS": "0",
            "DCCF_DOCKER_URL": docker_url,
        }
        self.controller = DccfProcess(["controller"], environment, folder / "controller.log")
        self.worker = DccfProcess(["worker"], environment, folder / "worker.log")

    def submit(self) -> UUID:
        """Submit a job; the controller sends its hint."""
        celery = DccfCelery("test")
        celery.__dict__["settings"] = self.settings
        intake = Intake(self.database, self.settings)
        intake.add("Dockerfile", DOCKERFILE.encode())
        intake.finish()
        job_id, spec = new_job_id(), JobSpec()
        message = messages.for_job(celery, job_id, "ann", spec)
        with self.database.begin() as tx:
            bundle_id = intake.make_bundle(tx, "ann")
            new = NewJob(
                id=job_id,
                owner="ann",
                spec=spec,
                bundle_id=bundle_id,
                inputs=(),
                celery_message=message,
                has_continuation=False,
                max_attempts=3,
            )
            submit(tx, self.settings, new)
        wait_for("its first lines", lambda: b"line 5\n" in self.log(job_id), look=self.worker.log_text)
        return job_id

    def job(self, job_id: UUID) -> Job:
        with self.database.begin() as tx:
            job = jobs.get(tx, job_id)
        assert job is not None
        return job

    def log(self, job_id: UUID) -> bytes:
        with self.database.begin() as tx:
            return logs.get_whole(tx, job_id, 1, Stream.STDOUT)[0]

    def history(self, job_id: UUID) -> str:
        with self.database.begin() as tx:
            return "\n".join(event.message for event in history.get_events(tx, job_id))

    def kill_and_restart(self) -> float:
        """Kill the worker's main process and start its next life; give when."""
        self.worker.kill()
        began = time.monotonic()
        self.worker.restart()
        return began

    def wait_for_end(self, job_id: UUID) -> Job:
        wait_for("the job's end", lambda: self.job(job_id).state.is_final, look=self.worker.log_text)
        return self.job(job_id)

    def containers(self, job_id: UUID) -> list[str]:
        return [item["Id"] for item in Engine(self.docker_url).containers({JOB_LABEL: str(job_id)})]


@pytest.fixture
def site(database: Database, settings: Settings, docker_url: str, tmp_path: Path) -> Iterator[Site]:
    made = Site(database, settings.model_copy(update={"runner": "docker"}), docker_url, tmp_path)
    yield made
    for process in (made.worker, made.controller):
        process.stop()


def test_a_killed_worker_s_container_goes_on_with_no_line_lost_or_doubled(site: Site) -> None:
    job_id = site.submit()

    began = site.kill_and_restart()
    wait_for("the adoption", lambda: "was started again; the attempt goes on" in site.history(job_id))
    adopted_after = time.monotonic() - began
    job = site.wait_for_end(job_id)

    assert (job.state, job.exit_code, job.fence, job.failures) == (JobState.FAILED, 7, 1, 1), site.history(job_id)
    assert site.log(job_id).decode() == "".join(f"line {number + 1}\n" for number in range(LINES))
    with site.database.begin() as tx:
        (attempt,) = history.get_attempts(tx, job_id)
        assert [artifact.path for artifact in artifacts.describe(tx, job_id)] == ["done"]
    assert attempt.exit_code == 7
    assert adopted_after < 3 * ADOPTED_SECONDS
    wait_for("the daemon to be clean", lambda: not site.containers(job_id))


def test_a_killed_pool_process_leaves_its_container_to_the_worker(site: Site) -> None:
    job_id = site.submit()
    main = site.worker.process.pid
    for child in Path(f"/proc/{main}/task/{main}/children").read_text().split():
        os.kill(int(child), signal.SIGKILL)

    wait_for("the adoption", lambda: "that ran the job died; the attempt goes on" in site.history(job_id))
    job = site.wait_for_end(job_id)

    assert (job.state, job.exit_code, job.fence) == (JobState.FAILED, 7, 1), site.history(job_id)
    assert site.log(job_id).decode() == "".join(f"line {number + 1}\n" for number in range(LINES))


def test_a_job_cancelled_while_its_worker_was_dead_is_cancelled_by_the_next_life(site: Site) -> None:
    job_id = site.submit()
    site.worker.kill()
    cancel.cancel(site.database, job_id, "ann")
    site.worker.restart()

    job = site.wait_for_end(job_id)

    assert (job.state, job.fence) == (JobState.CANCELLED, 1), site.history(job_id)
    wait_for("the daemon to be clean", lambda: not site.containers(job_id))


def test_a_worker_that_is_told_to_stop_hands_an_adopted_job_back(site: Site) -> None:
    job_id = site.submit()
    site.kill_and_restart()
    wait_for("the adoption", lambda: "the attempt goes on" in site.history(job_id))

    assert site.worker.stop() == 0

    job = site.job(job_id)
    assert (job.state, job.failures) == (JobState.QUEUED, 0), site.history(job_id)
    assert "handed the job back" in site.history(job_id)
    assert site.containers(job_id) == []
