"""What the worker's main process does about attempts that nobody runs."""

from __future__ import annotations

from uuid import UUID

import pytest

from dccf.config import Settings
from dccf.lifecycle import attempts
from dccf.models import JobState
from dccf.runner.fake import FakeRunner
from dccf.store import jobs
from dccf.store.database import Database
from dccf.worker.context import WorkerContext
from dccf.worker.keeper import Keeper

pytestmark = pytest.mark.postgres


def state_of(database: Database, job_id: UUID) -> tuple[JobState, int]:
    with database.begin() as tx:
        job = jobs.get(tx, job_id)
    assert job is not None
    return job.state, job.failures


def test_an_attempt_that_nobody_runs_is_handed_back_when_seen_twice(
    database: Database, settings: Settings, submit_job_message: UUID
) -> None:
    context = WorkerContext(settings, database, FakeRunner(settings))
    keeper = Keeper(context, pause=lambda: None, resume=lambda: None, count_slots=lambda: 1)
    attempts.claim(database, settings, submit_job_message, context.holder)

    keeper._hand_back_strays()
    assert state_of(database, submit_job_message) == (JobState.BUILDING, 0)
    keeper._hand_back_strays()
    assert state_of(database, submit_job_message) == (JobState.QUEUED, 0)


def test_an_attempt_that_somebody_runs_is_left_alone(
    database: Database, settings: Settings, submit_job_message: UUID
) -> None:
    context = WorkerContext(settings, database, FakeRunner(settings))
    keeper = Keeper(context, pause=lambda: None, resume=lambda: None, count_slots=lambda: 1)
    claimed = attempts.claim(database, settings, submit_job_message, context.holder)
    assert claimed is not None
    context.board.begin(0, submit_job_message, claimed[0].fence)

    for _ in range(3):
        keeper._hand_back_strays()
    assert state_of(database, submit_job_message) == (JobState.BUILDING, 0)
