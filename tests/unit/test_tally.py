"""Counts in memory that forked processes share."""

from __future__ import annotations

import os
from typing import Any

import pytest

from dccf.lifecycle.endings import Ending
from dccf.models import Job, JobState, Reason
from dccf.worker.board import Board
from dccf.worker.tally import MAIN, Tally, TallyCollector


def job_in(state: JobState) -> Job:
    fields: Any = {"state": state}
    return Job.model_construct(**fields)


def test_what_a_forked_process_counts_is_seen_by_its_parent() -> None:
    tally = Tally()
    pid = os.fork()
    if pid == 0:
        tally.of(3).claimed("taken")
        tally.of(3).stored(2, 1 << 40)
        os._exit(0)
    os.waitpid(pid, 0)
    tally.of(MAIN).claimed("taken")

    total = tally.total()

    assert (total["taken"], total["artifacts"], total["artifact_bytes"]) == (2, 2, 1 << 40)


@pytest.mark.parametrize(
    ("ending", "state", "key"),
    [
        (Ending(JobState.SUCCEEDED, ""), JobState.SUCCEEDED, ("succeeded", "")),
        (Ending(JobState.QUEUED, ""), JobState.QUEUED, ("handed_back", "")),
        (Ending(JobState.FAILED, "", Reason.PULL_FAILED), JobState.QUEUED, ("failed", "pull_failed")),
        (Ending(JobState.FAILED, "", Reason.EXIT_NONZERO), JobState.CANCELLED, ("cancelled", "")),
    ],
)
def test_an_end_is_counted_as_the_attempt_ended(ending: Ending, state: JobState, key: tuple[str, str]) -> None:
    tally = Tally()
    tally.of(0).ended(ending, job_in(state))
    assert [name for name, count in tally.total().items() if count] == [key]


def test_every_reason_has_its_sample_from_the_start() -> None:
    families = {family.name: family for family in TallyCollector(Tally(), Board()).collect()}
    told = {sample.labels["reason"] for sample in families["dccf_attempts_ended"].samples}
    assert told == {"", *(reason.value for reason in Reason)}
