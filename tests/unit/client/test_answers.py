"""Answers of another version of the API."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from dccf.client.answers import read
from dccf.errors import ApiUnavailable
from dccf.models import Job, JobSpec, JobState


@pytest.fixture
def answer() -> dict[str, Any]:
    now = datetime(2030, 1, 31, tzinfo=UTC)
    job = Job(
        id=UUID(int=1),
        state=JobState.QUEUED,
        message="waits",
        owner="ann",
        spec=JobSpec(cpus=2),
        bundle_id=UUID(int=2),
        fence=0,
        failures=0,
        max_attempts=3,
        created_at=now,
        run_after=now,
    )
    return job.model_dump(mode="json")


def test_what_a_newer_api_adds_is_left_out(answer: dict[str, Any]) -> None:
    newer = {**answer, "colour": "red", "spec": {**answer["spec"], "gpus": 1}}

    assert read(Job, newer) == read(Job, answer)


@pytest.mark.parametrize(("change", "where"), [({"state": "dreaming"}, "state"), ({"fence": "x"}, "fence")])
def test_an_answer_that_is_not_understood_says_what_and_why(
    answer: dict[str, Any], change: dict[str, Any], where: str
) -> None:
    with pytest.raises(ApiUnavailable, match=rf"Job: {where}\).*of the same version"):
        read(Job, {**answer, **change})
