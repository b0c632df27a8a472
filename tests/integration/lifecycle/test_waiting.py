"""Why jobs wait, said once for each reason."""

from __future__ import annotations

import re
from uuid import UUID

import pytest
from sqlalchemy import text

from dccf.administration import OwnerLimits
from dccf.config import Settings
from dccf.lifecycle import attempts, hints, leases, owners, waiting
from dccf.lifecycle.attempts import Holder
from dccf.store import fleet, history
from dccf.store.database import Database
from tests.integration.lifecycle.conftest import GetJob, SubmitJob
from tests.integration.lifecycle.test_limits import live_worker

pytestmark = pytest.mark.postgres


def said(database: Database, job_id: UUID) -> list[str]:
    with database.begin() as tx:
        return [event.message for event in history.get_events(tx, job_id)]


def test_without_a_worker_on_its_queue_a_job_says_so_once_and_takes_it_back_when_one_comes(
    database: Database, settings: Settings, submit_job: SubmitJob, get_job: GetJob
) -> None:
    live_worker(database)
    job = submit_job({"queue": "gpu"})
    assert waiting.explain(database, settings) == 1
    assert waiting.explain(database, settings) == 0
    assert get_job(job.id).message == "no worker listens on queue gpu"
    live_worker(database, "gpu-worker", queue="gpu")
    assert waiting.explain(database, settings) == 1
    assert get_job(job.id).message == "waits for a worker of queue gpu"
    assert said(database, job.id) == ["submitted by ann", "no worker listens on queue gpu"]


def test_a_job_says_what_its_only_worker_says_of_itself(
    database: Database, settings: Settings, submit_job: SubmitJob, get_job: GetJob
) -> None:
    job = submit_job()
    with database.begin() as tx:
        values = {"queues": ["default"], "slots": 1, "engine": "", "version": "0"}
        fleet.beat_worker(tx, "ill", "ill/1", message="no Docker daemon answers", **values)  # type: ignore[arg-type]
    waiting.explain(database, settings)
    assert get_job(job.id).message == "worker ill of queue default takes no jobs: no Docker daemon answers"


def test_the_owners_limit_is_named_for_those_that_wait_and_not_for_what_is_on_its_way(
    database: Database, settings: Settings, submit_job: SubmitJob, get_job: GetJob
) -> None:
    live_worker(database)
    owners.set_limits(database, settings, "ann", OwnerLimits(running=1))
    first, second = submit_job(), submit_job()
    hints.take_due(database, settings)
    waiting.explain(database, settings)
    assert get_job(first.id).message == "waits for a worker of queue default"
    assert "owner limit of 1 running job reached" in get_job(second.id).message


def test_a_lost_worker_and_the_next_attempt_are_told_with_their_times(
    database: Database, settings: Settings, submit_job: SubmitJob, get_job: GetJob, me: Holder
) -> None:
    job = submit_job()
    assert attempts.claim(database, settings, job.id, me)
    patient = settings.model_copy(update={"retry_backoff_seconds": 60})
    leases.release_earlier(database, patient, Holder(me.worker, "test-worker/2"))
    message = get_job(job.id).message
    assert re.match(r"attempt 1 lost its worker at \d\d:\d\d:\d\d UTC: .*; attempt 2 starts in \d+ s", message)
    waiting.explain(database, settings)
    assert get_job(job.id).message == message, "it may not start yet, whoever listens"


def test_a_job_for_later_says_when_it_starts(submit_job: SubmitJob) -> None:
    job = submit_job({"run_after": "2099-01-31T12:00:00Z"})
    assert job.message == "starts at 2099-01-31 12:00:00 UTC at the earliest"


def test_jobs_of_a_paused_queue_neither_go_out_nor_start_until_it_is_resumed(
    database: Database, settings: Settings, submit_job: SubmitJob, get_job: GetJob, me: Holder
) -> None:
    live_worker(database)
    sent, job = submit_job(), submit_job()
    hints.take_first(database, settings, sent.id)
    waiting.pause_queue(database, "default", "root")
    assert attempts.claim(database, settings, sent.id, me) is None
    assert hints.take_due(database, settings) == []
    waiting.explain(database, settings)
    assert [get_job(one.id).message for one in (sent, job)] == ["queue default is paused by root"] * 2
    waiting.resume_queue(database, "default")
    assert len(hints.take_due(database, settings)) == 2
    assert attempts.claim(database, settings, sent.id, me) is not None


def test_one_sweep_tells_a_bounded_number_of_jobs(
    database: Database, settings: Settings, submit_job: SubmitJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "BATCH", 3)
    for _ in range(4):
        submit_job()
    assert [waiting.explain(database, settings) for _ in range(3)] == [3, 1, 0]
    with database.begin() as tx:
        assert tx.execute(text("SELECT count(*) FROM job_event WHERE message LIKE 'no worker%'")).scalar() == 4
