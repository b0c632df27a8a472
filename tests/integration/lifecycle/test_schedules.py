"""Schedules on a real PostgreSQL: one job a time, however many controllers there are."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from dccf import errors
from dccf.administration import Missed, NewSchedule, OwnerLimits, Schedule
from dccf.celery_app import DccfCelery
from dccf.config import Settings
from dccf.controller import retention, schedules
from dccf.lifecycle import cancel, cron, owners, removal, scheduling
from dccf.models import Job, JobState
from dccf.store import jobs
from dccf.store import schedules as stored
from dccf.store.database import Database
from tests.integration.lifecycle.conftest import SubmitJob

pytestmark = pytest.mark.postgres


@pytest.fixture
def celery(settings: Settings, database: Database) -> DccfCelery:
    made = DccfCelery("test")
    made.__dict__.update(settings=settings, database=database)
    return made


def make(database: Database, job: Job, **changes: str) -> Schedule:
    values = {"name": "nightly", "job_id": str(job.id), "cron": "30 3 * * *", **changes}
    return scheduling.create(database, job, NewSchedule.model_validate(values))


def bring_forward(database: Database, seconds_ago: float) -> None:
    with database.begin() as tx:
        tx.execute(text("UPDATE schedule SET next_at = now() - make_interval(secs => :s)"), {"s": seconds_ago})


def get(database: Database) -> Schedule:
    with database.begin() as tx:
        found = stored.get(tx, "ann", "nightly")
    assert found is not None
    return found


def test_when_its_time_comes_a_schedule_makes_one_job_of_the_same_files_and_options(
    database: Database, settings: Settings, submit_job: SubmitJob, celery: DccfCelery
) -> None:
    job = submit_job({"labels": {"a": "1"}, "timeout_seconds": 7})
    made = make(database, job)
    assert made.next_at > datetime.now(UTC)
    assert schedules.fire(celery, database, settings) == 0
    bring_forward(database, 1)
    assert [schedules.fire(celery, database, settings) for _ in range(2)] == [1, 0]
    fired = get(database)
    assert fired.last_job_id is not None
    with database.begin() as tx:
        again = jobs.get(tx, fired.last_job_id)
    assert again is not None
    assert (again.state, again.owner, again.bundle_id) == (JobState.QUEUED, "ann", job.bundle_id)
    assert (again.spec.labels, again.spec.timeout_seconds) == ({"a": "1"}, 7)
    assert fired.next_at == made.next_at


def test_controllers_at_once_make_one_job(
    database: Database, settings: Settings, submit_job: SubmitJob, celery: DccfCelery
) -> None:
    make(database, submit_job())
    bring_forward(database, 1)
    barrier = threading.Barrier(4)
    made: list[int] = []

    def fire() -> None:
        barrier.wait()
        made.append(schedules.fire(celery, database, settings))

    threads = [threading.Thread(target=fire) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [0, 0, 0, 1]


@pytest.mark.parametrize(("missed", "expected"), [(Missed.SKIP, 0), (Missed.ONE, 1)])
def test_times_that_were_missed_are_skipped_or_made_up_for_by_one_job(
    database: Database,
    settings: Settings,
    submit_job: SubmitJob,
    celery: DccfCelery,
    missed: Missed,
    expected: int,
) -> None:
    make(database, submit_job(), missed=missed)
    bring_forward(database, 3 * 86400)
    assert schedules.fire(celery, database, settings) == expected
    assert get(database).next_at > datetime.now(UTC)
    assert ("was missed and skipped" in get(database).message) == (missed is Missed.SKIP)


def test_a_paused_schedule_makes_nothing_and_does_not_make_up_for_its_pause(
    database: Database, settings: Settings, submit_job: SubmitJob, celery: DccfCelery
) -> None:
    make(database, submit_job(), missed="one")
    bring_forward(database, 1)
    assert scheduling.pause(database, "ann", "nightly").is_paused
    assert schedules.fire(celery, database, settings) == 0
    assert scheduling.resume(database, "ann", "nightly").next_at > datetime.now(UTC)
    assert schedules.fire(celery, database, settings) == 0


def test_at_its_owners_limit_a_schedule_says_what_it_left_out_and_goes_on(
    database: Database, settings: Settings, submit_job: SubmitJob, celery: DccfCelery
) -> None:
    make(database, submit_job())
    owners.set_limits(database, settings, "ann", OwnerLimits(queued=1))
    bring_forward(database, 1)
    assert schedules.fire(celery, database, settings) == 0
    assert "was left out: owner ann has 1 jobs waiting" in get(database).message
    assert get(database).next_at > datetime.now(UTC)


def test_a_schedule_keeps_its_files_when_its_job_is_removed(
    database: Database, settings: Settings, submit_job: SubmitJob, celery: DccfCelery
) -> None:
    job = submit_job()
    make(database, job)
    cancel.cancel(database, job.id, "ann")
    removal.remove(database, job.id)
    with database.begin() as tx:
        tx.execute(text("UPDATE bundle SET created_at = now() - interval '30 days'"))
    retention.RetentionWalk(database, settings).run_through()
    bring_forward(database, 1)
    assert schedules.fire(celery, database, settings) == 1


def test_a_name_is_taken_once_and_what_is_not_there_is_not_found(database: Database, submit_job: SubmitJob) -> None:
    job = submit_job()
    make(database, job)
    with pytest.raises(errors.Conflict, match="has a schedule named"):
        make(database, job)
    scheduling.remove(database, "ann", "nightly")
    for call in (scheduling.remove, scheduling.pause, scheduling.resume):
        with pytest.raises(errors.NotFound):
            call(database, "ann", "nightly")


@pytest.mark.parametrize(
    ("expression", "zone", "pointer"),
    [
        ("every day", "UTC", "#/cron"),
        ("0 0 30 2 *", "UTC", "#/cron"),
        ("* * * * * *", "UTC", "#/cron"),
        ("0 0 * * *", "Mars/Olympus", "#/time_zone"),
        ("0 0 * * *", "../etc/passwd", "#/time_zone"),
    ],
)
def test_an_expression_or_zone_that_is_none_is_named(expression: str, zone: str, pointer: str) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        cron.check(expression, zone)
    assert caught.value.errors[0].pointer == pointer


def test_times_are_those_of_the_schedules_zone_in_summer_and_winter() -> None:
    winter = cron.next_after("30 3 * * *", "Europe/Berlin", datetime(2030, 1, 1, tzinfo=UTC))
    summer = cron.next_after("30 3 * * *", "Europe/Berlin", datetime(2030, 7, 1, tzinfo=UTC))
    assert (winter.hour, summer.hour) == (2, 1)
