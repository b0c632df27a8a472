"""Exit codes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from dccf import errors
from dccf.cli import exits
from dccf.errors import DccfError
from dccf.models import Job, JobSpec, JobState, Reason

AT = datetime(2030, 1, 31, tzinfo=UTC)


def job(state: JobState, reason: Reason | None = None, exit_code: int | None = None) -> Job:
    values: dict[str, Any] = {"id": UUID(int=1), "bundle_id": UUID(int=2), "owner": "ada", "spec": JobSpec()}
    times = {"created_at": AT, "run_after": AT}
    counts = {"fence": 1, "failures": 0, "max_attempts": 3}
    return Job(**values, **times, **counts, state=state, reason=reason, exit_code=exit_code, message="x")


@pytest.mark.parametrize(
    ("state", "reason", "exit_code", "expected"),
    [
        (JobState.SUCCEEDED, None, 0, 0),
        (JobState.FAILED, Reason.EXIT_NONZERO, 3, 3),
        (JobState.FAILED, Reason.EXIT_NONZERO, 125, 125),
        (JobState.FAILED, Reason.OUT_OF_MEMORY, 137, 137),
        (JobState.FAILED, Reason.TIMED_OUT, 137, 124),
        (JobState.FAILED, Reason.JOB_TIMED_OUT, None, 124),
        (JobState.FAILED, Reason.BUILD_FAILED, None, 125),
        (JobState.FAILED, Reason.BUILD_TIMED_OUT, None, 125),
        (JobState.FAILED, Reason.WORKER_LOST, None, 125),
        (JobState.FAILED, Reason.OUTPUT_LIMIT_EXCEEDED, 0, 1),
        (JobState.CANCELLED, None, 137, 130),
    ],
)
def test_a_job_gives_its_containers_code_or_says_why_there_is_none(
    state: JobState, reason: Reason | None, exit_code: int | None, expected: int
) -> None:
    assert exits.of_job(job(state, reason, exit_code)) == expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.InvalidRequest("x"), 2),
        (errors.IdempotencyMismatch("x"), 2),
        (errors.ConfigError("x"), 2),
        (errors.ApiUnavailable("x"), 69),
        (errors.StoreUnavailable("x"), 69),
        (errors.NotAuthenticated("x"), 77),
        (errors.NotAllowed("x"), 77),
        (errors.NotFound("x"), 1),
        (errors.LocalStackError("x"), 1),
    ],
)
def test_an_error_gives_the_code_of_its_kind(error: DccfError, expected: int) -> None:
    assert exits.of_error(error) == expected
