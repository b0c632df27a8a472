"""What the worker's main process does about attempts that nobody runs."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import text

from dccf.config import Settings
from dccf.lifecycle import attempts
from dccf.lifecycle.endings import Ending
from dccf.models import ACTIVE_STATES, JobState, Reason, StopCause
from dccf.runner.fake import FakeRunner
from dccf.store import fleet, held, jobs
from dccf.store.database import Database
from dccf.worker.context import WorkerContext
from dccf.worker.keeper import Keeper
from tests.processes import DccfProcess, wait_for

pytestmark = pytest.mark.postgres


def state_of(database: Database, job_id: UUID) -> tuple[JobState, int]:
    with database.begin() as tx:
        job = jobs.get(tx, job_id)
    assert job is not None
    return job.state, job.failures


def test_an_attempt_that_nobody_runs_is_lost_when_seen_twice(
    database: Database, settings: Settings, submit_job_message: UUID
) -> None:
    context = WorkerContext(settings, database, FakeRunner(settings))
    keeper = Keeper(context, pause=lambda: None, resume=lambda: None, count_slots=lambda: 1)
    attempts.claim(database, settings, submit_job_message, context.holder)

    keeper._give_up_strays()
    assert state_of(database, submit_job_message) == (JobState.BUILDING, 0)
    keeper._give_up_strays()
    assert state_of(database, submit_job_message) == (JobState.QUEUED, 1)


def test_an_attempt_that_somebody_runs_is_left_alone(
    database: Database, settings: Settings, submit_job_message: UUID
) -> None:
    context = WorkerContext(settings, database, FakeRunner(settings))
    keeper = Keeper(context, pause=lambda: None, resume=lambda: None, count_slots=lambda: 1)
    claimed = attempts.claim(database, settings, submit_job_message, context.holder)
    assert claimed is not None
    context.board.begin(0, submit_job_message, claimed[0].fence)

    for _ in range(3):
        keeper._give_up_strays()
    assert state_of(database, submit_job_message) == (JobState.BUILDING, 0)


def test_an_earlier_attempt_is_told_to_stop_although_the_worker_has_the_job_again(
    database: Database, settings: Settings, submit_job_message: UUID
) -> None:
    # Its lease ran out while the main process stood still, and another slot took the job before the keeper looked.
    context = WorkerContext(settings, database, FakeRunner(settings))
    keeper = Keeper(context, pause=lambda: None, resume=lambda: None, count_slots=lambda: 2)
    first = attempts.claim(database, settings, submit_job_message, context.holder)
    assert first is not None
    old = context.board.begin(0, submit_job_message, first[0].fence)
    attempts.finish(database, settings, first[0], Ending(JobState.FAILED, "lease", Reason.WORKER_LOST))
    second = attempts.claim(database, settings, submit_job_message, context.holder)
    assert second is not None
    new = context.board.begin(1, submit_job_message, second[0].fence)

    keeper._renew(context.board.running())

    assert (old.cause(), new.cause()) == (StopCause.LOST, None)


def test_leases_are_kept_while_the_broker_is_away(database: Database, settings: Settings, tmp_path: Path) -> None:
    environment = {
        "DCCF_DATABASE_URL": settings.database_url,
        "DCCF_BROKER_URL": "kafka://127.0.0.1:1",
        "DCCF_STATE_FOLDER": str(settings.state_folder),
        "DCCF_RUNNER": "fake",
        "DCCF_WORKER_NAME": "lonely",
    }
    worker = DccfProcess(["worker"], environment, tmp_path / "worker.log")

    def described() -> list[str]:
        with database.begin() as tx:
            return [info.message for info in fleet.get_workers(tx)]

    try:
        wait_for("its sign of life", lambda: described() == ["it waits for its broker"], look=worker.log_text)
        assert (settings.state_folder / "worker.heartbeat").exists()
    finally:
        worker.stop()
    assert described() == []


def test_a_worker_that_starts_does_not_read_all_jobs_that_ever_were(database: Database) -> None:
    condition = held._is_held_by_earlier("me", "me/now", ACTIVE_STATES).compile(
        database.engine, compile_kwargs={"literal_binds": True}
    )
    with database.begin() as tx:
        tx.execute(text("SET LOCAL enable_seqscan = off"))  # the table is empty, so the plan says what is possible
        plan = "\n".join(tx.execute(text(f"EXPLAIN SELECT id FROM job WHERE {condition}")).scalars())
    assert "Seq Scan" not in plan, plan
    assert "job_active_idx" in plan or "job_lease_expires_at_idx" in plan, plan


def test_workers_that_never_said_goodbye_are_forgotten_after_a_day(database: Database) -> None:
    with database.begin() as tx:
        for name in ("killed", "resting", "leaving"):
            fleet.beat_worker(tx, name, f"{name}/1", queues=("q",), slots=1, engine="", version="", message="")
        for name, hours in (("killed", 25), ("resting", 23)):
            ago = f"now() - interval '{hours} hours'"
            tx.execute(text(f"UPDATE worker SET heartbeat_at = {ago} WHERE name = :name"), {"name": name})

        fleet.forget_worker(tx, "leaving", "leaving/1")

        assert [info.name for info in fleet.get_workers(tx)] == ["resting"]
