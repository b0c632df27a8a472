"""Attempts that end in a way that nobody foresaw: each counts, so that no job is tried for ever."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import pytest

from dccf import errors
from dccf.config import Settings
from dccf.lifecycle import attempts
from dccf.models import Job, JobState, Reason
from dccf.runner.fake import FakeRunner
from dccf.store.database import Database
from dccf.worker.context import WorkerContext
from dccf.worker.execute import Execution

pytestmark = pytest.mark.postgres

Fail = Callable[[Exception], Job]


@pytest.fixture
def fail(database: Database, settings: Settings, submit_job_message: UUID, monkeypatch: pytest.MonkeyPatch) -> Fail:
    """Run an attempt whose build raises something; give the job after it."""

    def run(error: Exception) -> Job:
        def build(*_: object) -> str:
            raise error

        runner = FakeRunner(settings)
        monkeypatch.setattr(runner, "build", build)
        context = WorkerContext(settings, database, runner)
        claimed = attempts.claim(database, settings, submit_job_message, context.holder)
        assert claimed is not None
        lease, job = claimed
        stop = context.board.begin(0, lease.job_id, lease.fence)
        return Execution(settings, database, runner, lease, job, stop).run()

    return run


def test_an_error_that_nobody_foresaw_is_a_failure_of_the_platform(fail: Fail) -> None:
    states = [(job.state, job.failures) for job in (fail(RuntimeError("a\0b")) for _ in range(3))]
    assert states == [(JobState.QUEUED, 1), (JobState.QUEUED, 2), (JobState.FAILED, 3)]


def test_a_message_with_what_postgresql_cannot_hold_ends_its_job_all_the_same(fail: Fail) -> None:
    # A Dockerfile is bytes: what is no UTF-8 in it stands in messages as half a character.
    job = fail(errors.AttemptFailed(Reason.REJECTED, "line 1: FROM \udcff\0"))

    assert (job.state, job.reason) == (JobState.FAILED, Reason.REJECTED)
    assert job.message == "line 1: FROM \ufffd\ufffd"
