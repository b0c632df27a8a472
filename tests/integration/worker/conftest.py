"""A job whose message is a real hint, and the private Docker daemon of :mod:`tests.fixtures_docker`."""

from __future__ import annotations

from uuid import UUID

import pytest

from dccf.celery_app import DccfCelery, messages
from dccf.config import Settings
from dccf.lifecycle.ids import new_job_id
from dccf.lifecycle.intake import Intake
from dccf.lifecycle.submit import submit
from dccf.models import JobSpec
from dccf.store.database import Database
from dccf.store.jobs import NewJob
from tests.fixtures_docker import docker_daemon, docker_url

__all__ = ["docker_daemon", "docker_url"]


@pytest.fixture
def submit_job_message(database: Database, settings: Settings) -> UUID:
    """Submit a small job without sending its hint: the controller does that."""
    celery = DccfCelery("test")
    celery.__dict__["settings"] = settings
    intake = Intake(database, settings)
    intake.add("Dockerfile", b"FROM busybox\nCMD echo done > /output/done\n")
    intake.finish()
    job_id, spec = new_job_id(), JobSpec()
    with database.begin() as tx:
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
        submit(tx, settings, new)
    return job_id
