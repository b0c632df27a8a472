"""The life of a job on a real PostgreSQL: every legal move, and that the illegal ones are refused."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from itertools import product
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text, update

from dccf import errors
from dccf.celery_app import DccfCelery, dispatch
from dccf.config import Settings
from dccf.lifecycle import attempts, cancel, channels, hints, leases
from dccf.lifecycle.attempts import Holder, Lease
from dccf.lifecycle.endings import Ending, end
from dccf.lifecycle.transitions import TRANSITIONS
from dccf.models import FINAL_STATES, JobState, Reason
from dccf.store import artifacts, history, jobs, outbox
from dccf.store.blobs import BlobWriter
from dccf.store.bundles import NewFile
from dccf.store.database import Database, Listener
from dccf.store.outbox import Hint
from dccf.store.tables import job as job_table
from tests.integration.lifecycle.conftest import GetJob, SubmitJob

pytestmark = pytest.mark.postgres

DONE = Ending(JobState.SUCCEEDED, "ended with exit code 0", exit_code=0)
FAILED = Ending(JobState.FAILED, "ended with exit code 3", Reason.EXIT_NONZERO, 3)
LOST = Ending(JobState.FAILED, "the daemon went away", Reason.DAEMON_ERROR)


def claimed(database: Database, settings: Settings, job_id: UUID, holder: Holder, lease_seconds: float = 45) -> Lease:
    lasting = settings.model_copy(update={"lease_seconds": lease_seconds})
    claim = attempts.claim(database, lasting, job_id, holder)
    assert claim is not None
    return claim[0]


def collecting(database: Database, lease: Lease) -> Lease:
    attempts.advance(database, lease, JobState.RUNNING, "runs")
    attempts.advance(database, lease, JobState.COLLECTING, "collects")
    return lease


def test_a_job_goes_from_queued_to_succeeded_and_its_history_tells_it(
    database: Database, settings: Settings, submit_job: SubmitJob, get_job: GetJob, me: Holder
) -> None:
    job = submit_job()
    lease = collecting(database, claimed(database, settings, job.id, me))
    attempts.finish(database, settings, lease, DONE)

    ended = get_job(job.id)
    with database.begin() as tx:
        events = history.get_events(tx, job.id)
        (attempt,) = history.get_attempts(tx, job.id)
    assert (ended.state, ended.exit_code, ended.fence) == (JobState.SUCCEEDED, 0, 1)
    assert [event.state.value for event in events] == ["queued", "building", "running", "collecting", "succeeded"]
    assert (attempt.outcome, attempt.worker, attempt.exit_code) == ("succeeded", "test-worker", 0)
    assert ended.created_at <= ended.started_at <= ended.running_at <= ended.collecting_at  # type: ignore[operator]


@pytest.mark.parametrize("ending", [LOST, Ending(JobState.QUEUED, "the worker shut down")])
def test_files_of_an_attempt_that_is_followed_by_another_are_no_result_of_the_job(
    database: Database, settings: Settings, submit_job: SubmitJob, me: Holder, ending: Ending
) -> None:
    job_id = submit_job().id

    def store(lease: Lease, *names: str) -> None:
        with BlobWriter(database) as writer:
            for name in names:
                writer.store([name.encode()])
        files = [NewFile(name, 0o644, stored) for name, stored in zip(names, writer.stored, strict=True)]
        with database.begin() as tx:
            artifacts.add(tx, job_id, lease.fence, files)

    def rows() -> list[tuple[int, str]]:
        with database.begin() as tx:
            return [tuple(row) for row in tx.execute(text("SELECT fence, path FROM artifact ORDER BY 1, 2"))]

    first = collecting(database, claimed(database, settings, job_id, me))
    store(first, "half", "of it")
    attempts.finish(database, settings, first, ending)
    assert rows() == []

    second = collecting(database, claimed(database, settings, job_id, me))
    store(second, "all")
    attempts.finish(database, settings, second, DONE)
    assert rows() == [(2, "all")]


OWNER = "test-worker/1"


def put_in_state(database: Database, job_id: UUID, state: JobState) -> None:
    """Put a job into a state past the lifecycle, so that moves from every state can be tried."""
    values = {
        "state": state,
        "fence": 1,
        "reason": Reason.EXIT_NONZERO if state is JobState.FAILED else None,
        "lease_owner": OWNER if state.is_active else None,
        "lease_expires_at": datetime.now(UTC) + timedelta(minutes=1) if state.is_active else None,
        "finished_at": datetime.now(UTC) if state.is_final else None,
    }
    with database.begin() as tx:
        tx.execute(update(job_table).where(job_table.c.id == job_id).values(values))


@pytest.mark.parametrize(("source", "target"), list(product(JobState, (JobState.RUNNING, JobState.COLLECTING))))
def test_advance_follows_the_table_of_transitions(
    database: Database, submit_job: SubmitJob, get_job: GetJob, source: JobState, target: JobState
) -> None:
    job = submit_job()
    put_in_state(database, job.id, source)
    lease = Lease(job.id, 1, "test-worker", OWNER)
    # The same move again is a repeated write whose first answer was lost.
    if target in TRANSITIONS[source] or target is source:
        attempts.advance(database, lease, target, "moves")
        assert target == get_job(job.id).state
    else:
        with pytest.raises(errors.FencePassed):
            attempts.advance(database, lease, target, "moves")
        assert source == get_job(job.id).state


@pytest.mark.parametrize(("source", "target"), list(product(JobState, sorted(FINAL_STATES))))
def test_ending_follows_the_table_of_transitions(
    database: Database, submit_job: SubmitJob, get_job: GetJob, source: JobState, target: JobState
) -> None:
    job = submit_job()
    put_in_state(database, job.id, source)
    ending = Ending(target, "ends", Reason.TIMED_OUT if target is JobState.FAILED else None)
    with database.begin() as tx:
        locked = jobs.lock(tx, job.id)
        assert locked is not None
        if target in TRANSITIONS[source]:
            end(tx, locked, ending)
        else:
            with pytest.raises(errors.Conflict):
                end(tx, locked, ending)
    assert (target if target in TRANSITIONS[source] else source) == get_job(job.id).state


@pytest.mark.parametrize("source", list(JobState))
def test_only_a_queued_job_can_be_claimed(
    database: Database, settings: Settings, submit_job: SubmitJob, me: Holder, source: JobState
) -> None:
    job = submit_job()
    put_in_state(database, job.id, source)
    claim = attempts.claim(database, settings, job.id, me)
    assert (claim is not None) == (source is JobState.QUEUED)


def test_two_workers_racing_for_one_job_500_times_never_both_win(
    database: Database, settings: Settings, submit_job: SubmitJob
) -> None:
    job = submit_job()
    holders = [Holder("one", "one/1"), Holder("two", "two/1")]
    barrier = threading.Barrier(2)
    wins: list[list[bool]] = [[], []]

    def race(number: int) -> None:
        for _ in range(500):
            barrier.wait()
            wins[number].append(attempts.claim(database, settings, job.id, holders[number]) is not None)
            if barrier.wait() == 0:  # one of the two puts the job back for the next round
                with database.begin() as tx:
                    tx.execute(
                        text("UPDATE job SET state = 'queued', lease_expires_at = NULL WHERE id = :id"),
                        {"id": job.id},
                    )
            barrier.wait()

    threads = [threading.Thread(target=race, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [first + second for first, second in zip(*wins, strict=True)] == [1] * 500


def test_a_late_worker_writes_nothing_once_its_fence_has_passed(
    database: Database, settings: Settings, submit_job: SubmitJob, get_job: GetJob, me: Holder
) -> None:
    job = submit_job()
    stale = claimed(database, settings, job.id, me, lease_seconds=-1)
    leases.expire(database, settings)
    fresh = collecting(database, claimed(database, settings, job.id, Holder("other", "other/1")))

    with pytest.raises(errors.FencePassed):
        attempts.advance(database, stale, JobState.RUNNING, "runs")
    with pytest.raises(errors.FencePassed):
        attempts.finish(database, settings, stale, FAILED)
    with pytest.raises(errors.FencePassed), database.begin() as tx:
        attempts.require_fence(tx, stale)
    attempts.finish(database, settings, fresh, DONE)
    assert get_job(job.id).state == JobState.SUCCEEDED


def test_a_lost_worker_costs_an_attempt_and_the_cap_ends_the_job(
    database: Database, settings: Settings, submit_job: SubmitJob, get_job: GetJob, me: Holder
) -> None:
    job = submit_job()
    for attempt in (1, 2, 3):
        claimed(database, settings, job.id, me, lease_seconds=-1)
        leases.expire(database, settings)
        expected = JobState.QUEUED if attempt < 3 else JobState.FAILED
        assert expected == get_job(job.id).state
    ended = get_job(job.id)
    with database.begin() as tx:
        outcomes = [attempt.reason for attempt in history.get_attempts(tx, job.id)]
    assert (ended.reason, ended.failures) == (Reason.WORKER_LOST, 3)
    assert outcomes == [Reason.WORKER_LOST] * 3


def test_a_failure_of_the_jobs_own_is_final_unless_retries_were_asked_for(
    database: Database, settings: Settings, submit_job: SubmitJob, me: Holder
) -> None:
    plain, patient = submit_job(), submit_job({"retries": 1})
    first = attempts.finish(database, settings, claimed(database, settings, plain.id, me), FAILED)
    second = attempts.finish(database, settings, claimed(database, settings, patient.id, me), FAILED)
    third = attempts.finish(database, settings, claimed(database, settings, patient.id, me), FAILED)
    assert [first.state, second.state, third.state] == [JobState.FAILED, JobState.QUEUED, JobState.FAILED]
    assert (third.reason, third.exit_code) == (Reason.EXIT_NONZERO, 3)


def test_a_retried_job_waits_and_says_so(
    database: Database, settings: Settings, submit_job: SubmitJob, me: Holder
) -> None:
    patient = settings.model_copy(update={"retry_backoff_seconds": 60})
    job = submit_job()
    queued = attempts.finish(database, patient, claimed(database, settings, job.id, me), LOST)
    assert "attempt 1 failed" in queued.message
    assert "attempt 2 starts in" in queued.message
    assert queued.run_after > datetime.now(UTC)
    assert attempts.claim(database, settings, job.id, me) is None


def test_handing_a_job_back_counts_against_nothing(
    database: Database, settings: Settings, submit_job: SubmitJob, me: Holder
) -> None:
    job = submit_job()
    back = attempts.finish(
        database, settings, claimed(database, settings, job.id, me), Ending(JobState.QUEUED, "the worker shut down")
    )
    assert (back.state, back.failures, back.fence) == (JobState.QUEUED, 0, 1)


def test_a_queued_job_is_cancelled_at_once_and_never_starts(
    database: Database, settings: Settings, submit_job: SubmitJob, me: Holder
) -> None:
    job = submit_job()
    assert cancel.cancel(database, job.id, "ann").state == JobState.CANCELLED
    assert cancel.cancel(database, job.id, "ann").state == JobState.CANCELLED
    assert attempts.claim(database, settings, job.id, me) is None


@pytest.mark.parametrize("ending", [DONE, FAILED, LOST])
def test_an_accepted_cancel_stands_whatever_the_container_did(
    database: Database, settings: Settings, submit_job: SubmitJob, me: Holder, ending: Ending
) -> None:
    job = submit_job()
    lease = collecting(database, claimed(database, settings, job.id, me))
    assert cancel.cancel(database, job.id, "ann").cancel_requested
    assert {job.id} == cancel.find_requests(database, me)
    assert attempts.finish(database, settings, lease, ending).state == JobState.CANCELLED


def test_a_cancel_is_noticed_at_the_next_move(
    database: Database, settings: Settings, submit_job: SubmitJob, me: Holder
) -> None:
    job = submit_job()
    lease = claimed(database, settings, job.id, me)
    cancel.cancel(database, job.id, "ann")
    with pytest.raises(errors.AttemptStopped):
        attempts.advance(database, lease, JobState.RUNNING, "runs")


def test_cancelling_what_has_ended_or_does_not_exist_says_so(
    database: Database, settings: Settings, submit_job: SubmitJob, me: Holder
) -> None:
    job = submit_job()
    attempts.finish(database, settings, claimed(database, settings, job.id, me), FAILED)
    with pytest.raises(errors.Conflict, match="already failed"):
        cancel.cancel(database, job.id, "ann")
    with pytest.raises(errors.NotFound):
        cancel.cancel(database, uuid4(), "ann")
    with pytest.raises(errors.NotFound):
        cancel.cancel(database, submit_job().id, "bob", owner="bob")


def test_a_restarted_worker_takes_back_only_what_its_earlier_life_held(
    database: Database, settings: Settings, submit_job: SubmitJob, get_job: GetJob, me: Holder
) -> None:
    mine, others = submit_job(), submit_job()
    claimed(database, settings, mine.id, me)
    claimed(database, settings, others.id, Holder("other", "other/1"))
    leases.release_earlier(database, settings, Holder("test-worker", "test-worker/2"))
    assert [get_job(mine.id).state, get_job(others.id).state] == [JobState.QUEUED, JobState.BUILDING]


def test_a_restarted_worker_adopts_what_may_have_a_container_and_nothing_else(
    database: Database, settings: Settings, submit_job: SubmitJob, get_job: GetJob, me: Holder
) -> None:
    builds, runs, others = submit_job(), submit_job(), submit_job()
    claimed(database, settings, builds.id, me)
    old = claimed(database, settings, runs.id, me)
    attempts.advance(database, old, JobState.RUNNING, "runs")
    foreign = claimed(database, settings, others.id, Holder("other", "other/1"))
    attempts.advance(database, foreign, JobState.RUNNING, "runs")
    next_life = Holder("test-worker", "test-worker/2")

    released = leases.release_earlier(database, settings, next_life, {JobState.BUILDING})
    adopted = leases.adopt_earlier(database, next_life, settings.lease_seconds)

    assert [job.id for job in released] == [builds.id]
    ((lease, job),) = adopted
    assert (job.id, lease.fence, lease.lease_owner) == (runs.id, old.fence, next_life.lease_owner)
    assert leases.extend(database, next_life, [runs.id, others.id], 45) == {(runs.id, old.fence)}
    # Exactly one of the two lives writes, although both have the same fence.
    for write in (
        lambda: attempts.advance(database, old, JobState.RUNNING, "runs"),
        lambda: attempts.advance(database, old, JobState.COLLECTING, "collects"),
        lambda: attempts.finish(database, settings, old, DONE),
    ):
        with pytest.raises(errors.FencePassed):
            write()
    with pytest.raises(errors.FencePassed), database.begin() as tx:
        attempts.require_fence(tx, old)
    attempts.finish(database, settings, collecting_from_running(database, lease), DONE)
    ended = get_job(runs.id)
    assert (ended.state, ended.fence, ended.failures) == (JobState.SUCCEEDED, 1, 0)


def collecting_from_running(database: Database, lease: Lease) -> Lease:
    attempts.advance(database, lease, JobState.COLLECTING, "collects")
    return lease


def test_what_a_controller_took_first_is_not_adopted(
    database: Database, settings: Settings, submit_job: SubmitJob, get_job: GetJob, me: Holder
) -> None:
    job = submit_job()
    attempts.advance(database, claimed(database, settings, job.id, me), JobState.RUNNING, "runs")
    with database.begin() as tx:
        tx.execute(update(job_table).values(lease_expires_at=datetime.now(UTC) - timedelta(seconds=1)))
    assert [taken.id for taken in leases.expire(database, settings)] == [job.id]

    assert leases.adopt_earlier(database, Holder("test-worker", "test-worker/2"), 45) == []
    assert get_job(job.id).state == JobState.QUEUED


def test_leases_are_extended_only_for_who_holds_them(
    database: Database, settings: Settings, submit_job: SubmitJob, me: Holder
) -> None:
    job = submit_job()
    claimed(database, settings, job.id, me)
    assert {(job.id, 1)} == leases.extend(database, me, [job.id], 45)
    assert set() == leases.extend(database, Holder("test-worker", "test-worker/2"), [job.id], 45)


def test_after_an_outage_nobody_is_lost_before_everybody_could_renew(
    database: Database, settings: Settings, submit_job: SubmitJob, me: Holder
) -> None:
    job = submit_job()
    claimed(database, settings, job.id, me, lease_seconds=-1)
    assert leases.extend_all(database, 45) == 1
    assert leases.expire(database, settings) == []


def test_a_job_that_no_worker_takes_in_time_fails_and_says_so(database: Database, submit_job: SubmitJob) -> None:
    job = submit_job({"queue_timeout_seconds": 0.001, "queue": "gpu"})
    submit_job({"queue": "gpu"})
    (failed,) = leases.fail_overdue(database)
    assert (job.id, Reason.QUEUE_TIMED_OUT) == (failed.id, failed.reason)
    assert "queue gpu" in failed.message


def test_the_same_submit_twice_is_one_job(database: Database, submit_job: SubmitJob) -> None:
    first = submit_job(idempotency_key="k")
    assert first.id == submit_job(idempotency_key="k").id
    assert first.id == submit_job(id=first.id).id
    with pytest.raises(errors.IdempotencyMismatch):
        submit_job({"cpus": 2}, idempotency_key="k")
    with pytest.raises(errors.Conflict):
        submit_job(id=first.id, owner="bob")


def test_two_equal_submits_at_once_are_one_job(database: Database, submit_job: SubmitJob) -> None:
    barrier = threading.Barrier(8)
    made: list[UUID] = []

    def submit_one() -> None:
        barrier.wait()
        made.append(submit_job(idempotency_key="at-once").id)

    threads = [threading.Thread(target=submit_one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    assert len(set(made)) == 1


def test_hints_are_bounded_per_queue_and_shared_between_owners(
    database: Database, settings: Settings, submit_job: SubmitJob
) -> None:
    bounded = settings.model_copy(update={"hints_outstanding": 4})
    for _ in range(20):
        submit_job(owner="many")
    late = [submit_job(owner="few") for _ in range(2)]
    sent = hints.take_due(database, bounded)
    assert len(sent) == 4
    assert {job.id for job in late} <= {hint.job_id for hint in sent}
    assert hints.take_due(database, bounded) == []
    assert hints.take_first(database, bounded, submit_job().id) == []


def test_a_hint_that_was_not_sent_is_due_again(
    database: Database, settings: Settings, submit_job: SubmitJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hints, "RETRY_SECONDS", 0)
    job = submit_job()
    taken = hints.take_first(database, settings, job.id)
    hints.put_back(database, taken)
    assert [job.id] == [hint.job_id for hint in hints.take_due(database, settings)]


def test_a_job_that_somebody_holds_for_a_moment_needs_no_timer_to_be_hinted(
    database: Database, settings: Settings, submit_job: SubmitJob
) -> None:
    job = submit_job()
    listener = Listener(database, channels.WORK_TO_DO)
    with database.begin() as tx:
        jobs.lock(tx, job.id)
        assert hints.take_due(database, settings) == []
    assert listener.wait(10)
    assert [job.id] == [hint.job_id for hint in hints.take_due(database, settings)]
    assert listener.wait(0) == []
    listener.close()


def test_a_hint_that_the_broker_refuses_holds_no_other_up(
    database: Database, settings: Settings, submit_job: SubmitJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted = [submit_job().id for _ in range(5)]
    sent: list[UUID] = []

    def send(app: object, hint: Hint) -> None:
        if hint.job_id == submitted[1]:
            raise errors.BrokerUnavailable("too large")
        sent.append(hint.job_id)

    monkeypatch.setattr(dispatch, "send", send)
    dispatch.due(DccfCelery("test"), database, settings)
    assert set(submitted) - {submitted[1]} == set(sent)


def test_the_message_of_a_finished_job_is_sent_again_until_what_follows_it_was_sent(
    database: Database, settings: Settings, submit_job: SubmitJob, me: Holder
) -> None:
    job = submit_job(has_continuation=True)
    attempts.finish(database, settings, collecting(database, claimed(database, settings, job.id, me)), DONE)
    with database.begin() as tx:
        assert outbox.is_continuation_pending(tx, job.id)
        tx.execute(update(job_table).values(hint_after=text("now() - interval '1 s'")))
    assert [job.id] == [hint.job_id for hint in hints.take_due(database, settings)]
    hints.finish_continuation(database, job.id, JobState.SUCCEEDED)
    with database.begin() as tx:
        assert not outbox.is_continuation_pending(tx, job.id)
