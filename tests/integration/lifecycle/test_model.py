"""Any order of submits, claims, moves, ends, expiries, cancels and hand-backs by two workers, against a model."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import text

from dccf import errors
from dccf.config import Settings
from dccf.lifecycle import attempts, cancel, leases
from dccf.lifecycle.attempts import Holder, Lease
from dccf.lifecycle.endings import Ending
from dccf.lifecycle.transitions import TRANSITIONS
from dccf.models import ACTIVE_STATES, FINAL_STATES, Job, JobState, Reason
from dccf.store import history, jobs
from dccf.store.database import Database
from tests.integration.lifecycle.conftest import SubmitJob

pytestmark = pytest.mark.postgres

WORKERS = ("one", "two")
MAX_ATTEMPTS = 3
JOBS = 2
PLACES = st.integers(0, JOBS - 1)
ENDINGS = {
    "succeeded": Ending(JobState.SUCCEEDED, "ended with exit code 0", exit_code=0),
    "exit 3": Ending(JobState.FAILED, "ended with exit code 3", Reason.EXIT_NONZERO, 3),
    "daemon": Ending(JobState.FAILED, "the daemon went away", Reason.DAEMON_ERROR),
    "cancelled": Ending(JobState.CANCELLED, "cancelled on request"),
    "handed back": Ending(JobState.QUEUED, "the worker shut down"),
}
NEXT = {JobState.BUILDING: JobState.RUNNING, JobState.RUNNING: JobState.COLLECTING}


@dataclass
class Expected:
    """What a job must look like."""

    retries: int
    state: JobState = JobState.QUEUED
    fence: int = 0
    failures: int = 0
    retries_used: int = 0
    is_cancel_requested: bool = False
    worker: str | None = None

    def fail(self, reason: Reason) -> None:
        """Queue it again, or end it."""
        self.worker = None
        if reason.is_platform_fault and self.failures + 1 < MAX_ATTEMPTS:
            self.failures += 1
            self.state = JobState.QUEUED
        elif not reason.is_platform_fault and self.retries_used < self.retries:
            self.retries_used += 1
            self.state = JobState.QUEUED
        else:
            self.failures += 1
            self.state = JobState.FAILED

    def end(self, ending: Ending) -> None:
        """End the current attempt."""
        if self.is_cancel_requested:
            self.state, self.worker = JobState.CANCELLED, None
        elif ending.reason is not None:
            self.fail(ending.reason)
        else:
            self.state, self.worker = ending.state, None


class Life(RuleBasedStateMachine):
    """Two jobs, two workers with several lives each, a controller, and people who cancel."""

    def __init__(self, database: Database, settings: Settings, submit_job: SubmitJob) -> None:
        super().__init__()
        self.database, self.settings, self.submit_job = database, settings, submit_job
        self.expected: dict[UUID, Expected] = {}
        self.leases: dict[UUID, list[Lease]] = {}
        self.lives = dict.fromkeys(WORKERS, 1)
        with database.begin() as tx:
            tx.execute(text("TRUNCATE job CASCADE"))

    @initialize(retries=st.tuples(*[st.integers(0, 2)] * JOBS))
    def submit(self, retries: tuple[int, ...]) -> None:
        for count in retries:
            job = self.submit_job({"retries": count}, max_attempts=MAX_ATTEMPTS)
            self.expected[job.id] = Expected(count)
            self.leases[job.id] = []

    def holder(self, worker: str) -> Holder:
        return Holder(worker, f"{worker}/{self.lives[worker]}")

    def is_any_active(self) -> bool:
        return any(one.state in ACTIVE_STATES for one in self.expected.values())

    def pick(self, place: int) -> tuple[UUID, Expected]:
        return list(self.expected.items())[place]

    @rule(place=PLACES, worker=st.sampled_from(WORKERS))
    def claim(self, place: int, worker: str) -> None:
        job_id, expected = self.pick(place)
        claimed = attempts.claim(self.database, self.settings, job_id, self.holder(worker))
        assert (claimed is not None) == (expected.state is JobState.QUEUED)
        if claimed is not None:
            expected.state, expected.fence, expected.worker = JobState.BUILDING, expected.fence + 1, worker
            self.leases[job_id].append(claimed[0])

    @rule(place=PLACES, worker=st.sampled_from(WORKERS))
    def go_on(self, place: int, worker: str) -> None:
        job_id, expected = self.pick(place)
        if expected.state in FINAL_STATES:
            return
        if expected.state is JobState.QUEUED:
            self.claim(place, worker)
            return
        lease = self.leases[job_id][-1]
        if expected.state is JobState.COLLECTING:
            attempts.finish(self.database, self.settings, lease, ENDINGS["succeeded"])
            expected.end(ENDINGS["succeeded"])
            return
        expected.state = NEXT[expected.state]
        for _ in range(2):  # the second is a write repeated because its first answer was lost
            caught = self.caught(lambda: attempts.advance(self.database, lease, expected.state, "moves"))
            assert caught is (errors.AttemptStopped if expected.is_cancel_requested else None)

    @precondition(lambda self: self.is_any_active())
    @rule(place=PLACES, name=st.sampled_from(sorted(ENDINGS.keys() - {"succeeded"})))
    def end(self, place: int, name: str) -> None:
        job_id, expected = self.pick(place)
        if expected.state in ACTIVE_STATES:
            attempts.finish(self.database, self.settings, self.leases[job_id][-1], ENDINGS[name])
            expected.end(ENDINGS[name])

    @precondition(lambda self: self.is_any_active())
    @rule(place=PLACES)
    def succeed_too_early(self, place: int) -> None:
        job_id, expected = self.pick(place)
        if expected.state in NEXT and not expected.is_cancel_requested:
            lease = self.leases[job_id][-1]
            caught = self.caught(lambda: attempts.finish(self.database, self.settings, lease, ENDINGS["succeeded"]))
            assert caught is errors.Conflict

    @precondition(lambda self: any(len(held) > 1 for held in self.leases.values()))
    @rule(place=PLACES, which=st.integers(0, 2), name=st.sampled_from(sorted(ENDINGS)))
    def write_under_a_lease_that_is_over(self, place: int, which: int, name: str) -> None:
        job_id, expected = self.pick(place)
        over = self.leases[job_id][: -1 if expected.state in ACTIVE_STATES else None]
        if not over:
            return
        lease = over[which % len(over)]
        for call in (
            lambda: attempts.finish(self.database, self.settings, lease, ENDINGS[name]),
            lambda: attempts.advance(self.database, lease, JobState.RUNNING, "moves"),
            lambda: attempts.advance(self.database, lease, JobState.COLLECTING, "moves"),
        ):
            assert self.caught(call) is errors.FencePassed

    @precondition(lambda self: self.is_any_active())
    @rule(place=PLACES, chance=st.integers(0, 4))
    def cancel(self, place: int, chance: int) -> None:
        if chance:
            return
        job_id, expected = self.pick(place)
        caught = self.caught(lambda: cancel.cancel(self.database, job_id, "ann"))
        assert caught is (errors.Conflict if expected.state in FINAL_STATES - {JobState.CANCELLED} else None)
        if expected.state is JobState.QUEUED:
            expected.state = JobState.CANCELLED
        elif expected.state in ACTIVE_STATES:
            expected.is_cancel_requested = True

    @precondition(lambda self: self.is_any_active())
    @rule(place=PLACES)
    def let_a_lease_run_out(self, place: int) -> None:
        job_id, expected = self.pick(place)
        with self.database.begin() as tx:
            statement = (
                "UPDATE job SET lease_expires_at = now() - interval '1 s' WHERE id = :id AND lease_owner <> ''"
            )
            tx.execute(text(statement), {"id": job_id})
        found = [job.id for job in leases.expire(self.database, self.settings)]
        assert found == ([job_id] if expected.state in ACTIVE_STATES else [])
        if found:
            expected.end(Ending(JobState.FAILED, "", Reason.WORKER_LOST))

    @precondition(lambda self: self.is_any_active())
    @rule(worker=st.sampled_from(WORKERS))
    def restart_a_worker(self, worker: str) -> None:
        self.lives[worker] += 1
        held = {job_id: one.state for job_id, one in self.expected.items() if one.worker == worker}
        lost = {job_id for job_id, state in held.items() if state is JobState.BUILDING}
        released = leases.release_earlier(self.database, self.settings, self.holder(worker), {JobState.BUILDING})
        assert {job.id for job in released} == lost
        for job_id in lost:
            self.expected[job_id].end(Ending(JobState.FAILED, "", Reason.WORKER_LOST))
        adopted = leases.adopt_earlier(self.database, self.holder(worker), 45)
        assert {job.id for _, job in adopted} == held.keys() - lost
        for lease, job in adopted:
            assert lease.fence == self.expected[job.id].fence
            self.leases[job.id].append(lease)

    @precondition(lambda self: self.is_any_active())
    @rule(worker=st.sampled_from(WORKERS))
    def renew(self, worker: str) -> None:
        assert leases.release_earlier(self.database, self.settings, self.holder(worker)) == [], "it is its own life"
        kept = leases.extend(self.database, self.holder(worker), list(self.expected), 45)
        assert kept == {(job_id, one.fence) for job_id, one in self.expected.items() if one.worker == worker}

    @invariant()
    def every_job_is_as_expected_and_came_there_by_legal_moves(self) -> None:
        for job_id, expected in self.expected.items():
            with self.database.begin() as tx:
                job = jobs.get(tx, job_id)
                events = history.get_events(tx, job_id)
                made = history.get_attempts(tx, job_id)
            assert isinstance(job, Job)
            assert (job.state, job.fence, job.failures) == (expected.state, expected.fence, expected.failures)
            states = [event.state for event in events]
            for before, after in itertools.pairwise(states):
                assert after is before or after in TRANSITIONS[before]
            assert [attempt.fence for attempt in made] == list(range(1, job.fence + 1))
            still_open = [attempt.fence for attempt in made if attempt.finished_at is None]
            assert still_open == ([job.fence] if job.state in ACTIVE_STATES else []), "one owner, or none"
            accepted = [attempt for attempt in made if attempt.outcome == "succeeded"]
            assert len(accepted) == (job.state is JobState.SUCCEEDED), "one result, or none"

    @staticmethod
    def caught(call: Callable[[], object]) -> type[Exception] | None:
        try:
            call()
        except (errors.FencePassed, errors.Conflict, errors.AttemptStopped) as error:
            return type(error)
        return None


def test_no_order_of_events_reaches_an_illegal_state_or_two_owners(
    database: Database, settings: Settings, submit_job: SubmitJob
) -> None:
    run_state_machine_as_test(
        lambda: Life(database, settings, submit_job),  # type: ignore[arg-type]
        settings=hypothesis.settings(
            max_examples=80, stateful_step_count=30, deadline=None, derandomize=True, database=None
        ),
    )
