"""Jobs under random kills, freezes and an outage of PostgreSQL: every job ends, with one result.

``CHAOS_SEED`` repeats an order of harm, ``CHAOS_JOBS`` makes it longer (``scripts/soak``).
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from dccf import errors
from dccf.client import Client, JobHandle
from dccf.models import PLATFORM_REASONS, JobState
from tests.acceptance.chaos.havoc import Havoc
from tests.acceptance.conftest import Stack, running_stack
from tests.acceptance.leftovers import leftovers
from tests.acceptance.submitting import submit_patiently
from tests.conftest import broker_for_stacks
from tests.processes import wait_for

pytestmark = [pytest.mark.stack, pytest.mark.docker, pytest.mark.postgres]

JOBS = int(os.environ.get("CHAOS_JOBS", "200"))
SEED = int(os.environ.get("CHAOS_SEED", "5"))
DOCKERFILE = "FROM busybox\nCMD sleep $S; echo $N > /output/n\n"
#: So many submit at once: one alone would wait for each fault of the API, and the workers for it.
SUBMITTERS = 4
#: The whole may take this long for each job, on top of what the harm costs.
JOB_SECONDS = 4.0
HARM_SECONDS = 300.0
#: A worker sweeps every minute; what its daemon is still at work on goes the next time.
CLEAN_SECONDS = 180.0


def submit(client: Client, folder: Path, number: int, seconds: float) -> JobHandle:
    """Submit a job that sleeps so long and then writes its number."""
    env = {"N": str(number), "S": f"{seconds:.2f}"}
    return submit_patiently(client, folder, f"chaos-{SEED}-{number}", env=env, labels={"test": "chaos"})


def ended(handles: list[JobHandle]) -> bool:
    """Tell whether all have ended; asks only for those that had not."""
    for handle in handles:
        if not handle.job.state.is_final:
            try:
                if not handle.refresh().state.is_final:
                    return False
            except (errors.ApiUnavailable, errors.StoreUnavailable):
                return False
    return True


@pytest.fixture
def own_stack() -> Iterator[Stack]:
    """A stack that no other test uses."""
    with running_stack(broker_for_stacks()) as running:
        yield running


def test_jobs_end_once_each_whatever_is_killed_frozen_or_away(own_stack: Stack, tmp_path: Path) -> None:
    havoc = Havoc(own_stack, SEED)
    try:
        live_through(own_stack, havoc, tmp_path)
    finally:
        havoc.stop()


def live_through(stack: Stack, havoc: Havoc, tmp_path: Path) -> None:
    """Submit jobs while harm is done, then let all of them end, and check each."""
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    lengths = random.Random(SEED)
    started = time.monotonic()
    with stack.client() as client:
        havoc.start()
        try:
            seconds = [0.2 + 2.8 * lengths.random() ** 4 for _ in range(JOBS)]
            with ThreadPoolExecutor(SUBMITTERS) as people:
                handles = list(people.map(partial(submit, client, tmp_path), range(JOBS), seconds))
            half = handles[: JOBS // 2]
            wait_for("half of the jobs to end", lambda: ended(half), HARM_SECONDS + JOBS * JOB_SECONDS)
        finally:
            havoc.stop()
            print(f"{time.monotonic() - started:.0f} s: " + "; ".join(havoc.done))
        wait_for("all jobs to end", lambda: ended(handles), HARM_SECONDS + JOBS * JOB_SECONDS)
        tally = Counter(check(number, handle) for number, handle in enumerate(handles))
    print(f"seed {SEED}, {time.monotonic() - started:.0f} s, {dict(tally)}")
    assert tally["succeeded"] > JOBS * 0.8, tally
    wait_for("the daemon to be clean", lambda: not leftovers(stack), CLEAN_SECONDS, lambda: leftovers(stack))


def check(number: int, handle: JobHandle) -> str:
    """Check that a job ended once, with its own output, and that every attempt is accounted for."""
    job, attempts = handle.refresh(), handle.attempts()
    assert list(range(1, job.fence + 1)) == [attempt.fence for attempt in attempts]
    assert all(attempt.finished_at for attempt in attempts), attempts
    unfinished = attempts[:-1] if job.state is JobState.SUCCEEDED else attempts
    assert all(attempt.outcome in {"failed", "handed_back"} for attempt in unfinished), attempts
    assert all(attempt.reason in PLATFORM_REASONS for attempt in unfinished if attempt.outcome == "failed"), attempts
    assert job.failures == sum(attempt.outcome == "failed" for attempt in attempts)
    # One line of the history for each end: nothing was written over an end that was there.
    assert [event.state for event in handle.history() if event.state.is_final] == [job.state]
    if job.state is JobState.SUCCEEDED:
        assert attempts[-1].outcome == "succeeded"
        assert [file.path for file in handle.artifacts()] == ["n"]
        assert f"{number}\n".encode() == b"".join(handle.read_artifact("n"))
        return "succeeded"
    # As many faults of the platform as are allowed are an end too, with its reason.
    assert job.reason in PLATFORM_REASONS, job.message
    assert job.failures == job.max_attempts
    return str(job.reason)
