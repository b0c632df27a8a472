"""Jobs to move through their life."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from dccf.config import Settings
from dccf.lifecycle.attempts import Holder
from dccf.lifecycle.ids import new_job_id
from dccf.lifecycle.intake import Intake
from dccf.lifecycle.submit import submit
from dccf.models import Job, JobSpec
from dccf.store import jobs
from dccf.store.database import Database
from dccf.store.jobs import NewJob

SubmitJob = Callable[..., Job]
GetJob = Callable[[UUID], Job]


@pytest.fixture
def me() -> Holder:
    return Holder("test-worker", "test-worker/1")


@pytest.fixture
def submit_job(database: Database, settings: Settings) -> SubmitJob:
    """Submit a job; keywords are options of its spec or fields of the new job."""

    def submit_one(spec: dict[str, Any] | None = None, **fields: Any) -> Job:
        intake = Intake(database, settings)
        intake.add("Dockerfile", b"FROM busybox\n")
        intake.finish()
        job_spec = JobSpec.model_validate(spec or {})
        with database.begin() as tx:
            values: dict[str, Any] = {
                "id": new_job_id(),
                "owner": "ann",
                "spec": job_spec,
                "bundle_id": intake.make_bundle(tx, "ann"),
                "inputs": (),
                "celery_message": "{}",
                "has_continuation": False,
                "max_attempts": 3,
                "request_hash": intake.request_hash(job_spec),
            }
            return submit(tx, settings, NewJob(**{**values, **fields})).job

    return submit_one


@pytest.fixture
def get_job(database: Database) -> GetJob:
    def get_one(job_id: UUID) -> Job:
        with database.begin() as tx:
            job = jobs.get(tx, job_id)
        assert job is not None
        return job

    return get_one
