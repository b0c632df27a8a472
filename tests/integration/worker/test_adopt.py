"""Attempts whose process died: every way in which they can go on or end, on a scripted runner."""

from __future__ import annotations

import threading
from collections.abc import Callable
from uuid import UUID

import pytest

from dccf import errors
from dccf.config import Settings
from dccf.lifecycle import attempts, cancel, leases
from dccf.lifecycle.attempts import Holder, Lease
from dccf.lifecycle.endings import Ending
from dccf.models import Job, JobState, LogChunk, Reason, StopCause, Stream
from dccf.runner.base import AttemptRef
from dccf.runner.fake import FakeRunner
from dccf.store import history, jobs, logs
from dccf.store.database import Database
from dccf.worker import adopt
from dccf.worker import context as contexts
from dccf.worker.adopt import Adopter
from dccf.worker.context import WorkerContext
from dccf.worker.keeper import Keeper
from tests.processes import wait_for

pytestmark = pytest.mark.postgres

PRINTED = "".join(f"line {number}\n" for number in range(100))


class Playing:
    """A worker's next life before a container that its earlier life started."""

    def __init__(
        self, database: Database, settings: Settings, job_id: UUID, runner: FakeRunner, env: dict[str, str] | None
    ) -> None:
        """With ``env=None`` the container is gone."""
        self.database, self.settings, self.job_id, self.runner = database, settings, job_id, runner
        earlier = Holder(settings.worker_name, f"{settings.worker_name}/earlier")
        claimed = attempts.claim(database, settings, job_id, earlier)
        assert claimed is not None
        self.old, job = claimed
        attempts.advance(database, self.old, JobState.RUNNING, "runs")
        if env is not None:
            runner._containers[AttemptRef(job_id, self.old.fence, settings.worker_name)] = env
        self.job = job.model_copy(update={"spec": job.spec.model_copy(update={"env": env or {}})})
        self.context = WorkerContext(settings, database, runner)
        self.adopter = Adopter(self.context)

    def adopt(self) -> Lease:
        """Adopt as the keeper does."""
        ((lease, _),) = leases.adopt_earlier(self.database, self.context.holder, self.settings.lease_seconds)
        self.adopter.adopt(0, lease, self.job, "worker test-worker was started again")
        return lease

    def stop(self, cause: StopCause) -> None:
        (running,) = self.context.board.running()
        self.context.board.stop(running, cause)

    def end(self) -> Job:
        """Wait until nothing is adopted any more; the job as it is then."""
        self.adopter.wait(lambda: False)
        assert self.context.board.running() == []
        with self.database.begin() as tx:
            job = jobs.get(tx, self.job_id)
        assert job is not None
        return job

    def history(self) -> str:
        with self.database.begin() as tx:
            return "\n".join(event.message for event in history.get_events(tx, self.job_id))


MakePlaying = Callable[..., Playing]


@pytest.fixture
def playing(
    database: Database, settings: Settings, submit_job_message: UUID, monkeypatch: pytest.MonkeyPatch
) -> MakePlaying:
    def make(env: dict[str, str] | None) -> Playing:
        runner = FakeRunner(settings)
        monkeypatch.setattr(adopt, "make_runner", lambda *_: runner)
        return Playing(database, settings, submit_job_message, runner, env)

    return make


def test_a_container_that_is_there_ends_in_the_same_attempt(playing: MakePlaying, database: Database) -> None:
    play = playing({"DCCF_FAKE_STDOUT": PRINTED, "DCCF_FAKE_EXIT_CODE": "7", "DCCF_FAKE_OUTPUT": "a=x"})
    with database.begin() as tx:
        stored = PRINTED[:250].encode()
        logs.add(tx, play.job_id, [LogChunk(seq=4, fence=1, stream=Stream.STDOUT, at=jobs.get_now(tx), data=stored)])

    play.adopt()
    job = play.end()

    assert (job.state, job.exit_code, job.fence, job.failures) == (JobState.FAILED, 7, 1, 1)
    assert "started again; the attempt goes on" in play.history()
    with database.begin() as tx:
        chunks = logs.get(tx, play.job_id, 1)
        (attempt,) = history.get_attempts(tx, play.job_id)
    assert b"".join(chunk.data for chunk in chunks) == PRINTED.encode()
    assert [chunk.seq for chunk in chunks] == [4, 5]
    assert attempt.exit_code == 7


def test_without_its_container_the_attempt_is_lost_and_another_one_waits(playing: MakePlaying) -> None:
    play = playing(None)

    play.adopt()
    job = play.end()

    assert (job.state, job.fence, job.failures) == (JobState.QUEUED, 1, 1)
    assert "no container to go on with" in play.history()


@pytest.mark.parametrize(
    ("cause", "state", "failures"),
    [
        (StopCause.CANCEL, JobState.CANCELLED, 0),
        (StopCause.SHUTDOWN, JobState.QUEUED, 0),
        (StopCause.OVERDUE, JobState.FAILED, 1),
    ],
)
def test_an_adopted_attempt_is_stopped_like_any_other(
    playing: MakePlaying, cause: StopCause, state: JobState, failures: int
) -> None:
    play = playing({"DCCF_FAKE_SLEEP_SECONDS": "60"})
    play.job = play.job.model_copy(
        update={"spec": play.job.spec.model_copy(update={"job_timeout_seconds": 100.0, "retries": 0})}
    )
    play.adopt()
    play.stop(cause)

    job = play.end()

    assert (job.state, job.failures) == (state, failures)


def test_a_job_cancelled_while_its_worker_was_away_is_cancelled(playing: MakePlaying, database: Database) -> None:
    play = playing({"DCCF_FAKE_EXIT_CODE": "0"})
    cancel.cancel(database, play.job_id, "ann")

    play.adopt()

    assert play.end().state == JobState.CANCELLED


def test_what_another_took_meanwhile_is_left_to_it(
    playing: MakePlaying, database: Database, settings: Settings
) -> None:
    play = playing({"DCCF_FAKE_SLEEP_SECONDS": "60"})
    lease = play.adopt()
    wait_for("the adoption", lambda: "goes on" in play.history())
    attempts.finish(database, settings, lease, Ending(JobState.FAILED, "lost", Reason.WORKER_LOST))
    other = attempts.claim(database, settings, play.job_id, Holder("other", "other/1"))
    assert other is not None
    play.stop(StopCause.LOST)

    job = play.end()

    assert (job.state, job.fence, job.worker) == (JobState.BUILDING, 2, "other")


def test_a_daemon_that_stays_away_is_its_own_fault(playing: MakePlaying, monkeypatch: pytest.MonkeyPatch) -> None:
    play = playing({})
    monkeypatch.setattr(adopt, "ENGINE_SECONDS", 0.3)
    monkeypatch.setattr(play.runner, "is_resumable", away)

    play.adopt()
    job = play.end()

    assert (job.state, job.failures) == (JobState.QUEUED, 1)
    assert "daemon_error" in play.history()


def test_a_daemon_that_comes_back_is_waited_for(playing: MakePlaying, monkeypatch: pytest.MonkeyPatch) -> None:
    play = playing({"DCCF_FAKE_EXIT_CODE": "0"})
    is_back = threading.Event()
    asked = threading.Event()

    def is_resumable(ref: AttemptRef) -> bool:
        asked.set()
        return is_back.is_set() or away(ref)

    monkeypatch.setattr(play.runner, "is_resumable", is_resumable)
    play.adopt()
    assert asked.wait(10)
    is_back.set()

    assert play.end().state == JobState.SUCCEEDED


def test_the_slot_of_an_adopted_attempt_takes_no_job(playing: MakePlaying, monkeypatch: pytest.MonkeyPatch) -> None:
    play = playing({"DCCF_FAKE_SLEEP_SECONDS": "60"})
    monkeypatch.setattr(contexts, "SLOT_WAIT_SECONDS", 0.1)
    play.context.require_able()

    play.adopt()
    with pytest.raises(errors.EngineUnavailable, match="its slot is taken"):
        play.context.require_able()
    play.stop(StopCause.SHUTDOWN)
    play.end()

    play.context.require_able()


def test_the_keeper_goes_on_where_a_pool_process_died(playing: MakePlaying, database: Database) -> None:
    play = playing({"DCCF_FAKE_EXIT_CODE": "0"})
    keeper = Keeper(play.context, lambda: None, lambda: None, lambda: 1)
    play.adopter = keeper.adopter
    leases.adopt_earlier(database, play.context.holder, 45)  # the lease is of this life

    keeper._release_dead(play.context.board.begin(3, play.job_id, 1).running)

    assert play.end().state == JobState.SUCCEEDED
    assert "that ran the job died; the attempt goes on" in play.history()
    keeper._release_dead(play.context.board.begin(3, play.job_id, 1).running)
    assert play.end().state == JobState.SUCCEEDED, "it died after its end was written"


def test_the_keeper_gives_up_a_build_whose_process_died(
    database: Database, settings: Settings, submit_job_message: UUID
) -> None:
    context = WorkerContext(settings, database, FakeRunner(settings))
    keeper = Keeper(context, lambda: None, lambda: None, lambda: 1)
    attempts.claim(database, settings, submit_job_message, context.holder)

    keeper._release_dead(context.board.begin(0, submit_job_message, 1).running)

    with database.begin() as tx:
        job = jobs.get(tx, submit_job_message)
    assert job is not None
    assert (job.state, job.failures) == (JobState.QUEUED, 1)


def test_the_keeper_adopts_what_the_earlier_life_left_once(playing: MakePlaying) -> None:
    play = playing({"DCCF_FAKE_EXIT_CODE": "0"})
    keeper = Keeper(play.context, lambda: None, lambda: None, lambda: 1)
    play.adopter = keeper.adopter

    keeper.adopt_earlier()
    keeper.adopt_earlier()

    assert play.end().state == JobState.SUCCEEDED
    assert play.history().count("goes on") == 1


def away(ref: AttemptRef) -> bool:
    raise errors.EngineUnavailable(f"The daemon is away and says nothing of {ref.job_id}.")
