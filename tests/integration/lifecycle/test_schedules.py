"""Schedules on a real PostgreSQL: one job a time, however many controllers there are."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text

from dccf import errors
from dccf.administration import Missed, NewSchedule, NewScheduleOfJob, OwnerLimits, Schedule, ScheduleChange
from dccf.celery_app import DccfCelery
from dccf.config import Settings
from dccf.controller import retention, schedules
from dccf.lifecycle import cancel, cron, owners, removal, scheduling
from dccf.lifecycle.intake import Intake
from dccf.models import Job, JobSpec, JobState
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
    return scheduling.create_of_job(database, job, NewScheduleOfJob.model_validate(values)).schedule


def make_of_files(database: Database, settings: Settings, name: str = "nightly", **spec: object) -> Schedule:
    intake = Intake(database, settings)
    intake.add("Dockerfile", b"FROM busybox\n")
    intake.finish()
    new = NewSchedule(name=name, cron="30 3 * * *")
    made = scheduling.create(
        database, "ann", new, JobSpec.model_validate(spec), lambda tx: intake.make_bundle(tx, "ann")
    )
    return made.schedule


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


def test_files_that_no_job_has_yet_are_kept_for_their_schedule_and_go_with_it(
    database: Database, settings: Settings, celery: DccfCelery
) -> None:
    made = make_of_files(database, settings, labels={"a": "1"})
    with database.begin() as tx:
        tx.execute(text("UPDATE bundle SET created_at = now() - interval '30 days'"))
    retention.RetentionWalk(database, settings).run_through()
    bring_forward(database, 1)
    assert schedules.fire(celery, database, settings) == 1
    with database.begin() as tx:
        (job,) = jobs.find(tx, "ann").items
    assert (job.bundle_id, job.spec.labels) == (made.bundle_id, {"a": "1"})

    cancel.cancel(database, job.id, "ann")
    removal.remove(database, job.id)
    scheduling.remove(database, "ann", "nightly")
    retention.RetentionWalk(database, settings).run_through()
    with database.begin() as tx:
        assert tx.execute(text("SELECT count(*) FROM bundle")).scalar_one() == 0


def test_options_that_say_when_to_start_are_refused(database: Database, settings: Settings) -> None:
    with pytest.raises(errors.InvalidRequest, match="leave run_after out"):
        make_of_files(database, settings, run_after=datetime.now(UTC))


def test_one_name_at_once_is_made_once_and_the_others_are_told(database: Database, settings: Settings) -> None:
    barrier = threading.Barrier(4)
    told: list[str] = []

    def create() -> None:
        barrier.wait()
        try:
            make_of_files(database, settings)
        except errors.Conflict as error:
            told.append(str(error))

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 3
    assert "dccf schedules rm nightly" in told[0]
    with database.begin() as tx:
        assert tx.execute(text("SELECT count(*) FROM bundle")).scalar_one() == 1


def test_the_details_tell_the_next_times_and_what_became_of_the_last_runs(
    database: Database, settings: Settings, submit_job: SubmitJob, celery: DccfCelery
) -> None:
    made = make(database, submit_job())
    owners.set_limits(database, settings, "ann", OwnerLimits(queued=1))
    bring_forward(database, 1)
    schedules.fire(celery, database, settings)
    owners.set_limits(database, settings, "ann", OwnerLimits())
    bring_forward(database, 86400)
    schedules.fire(celery, database, settings)
    bring_forward(database, 1)
    schedules.fire(celery, database, settings)
    told = scheduling.get_details(database, "ann", "nightly")

    assert told.next_times == tuple(made.next_at + timedelta(days=days) for days in range(5))
    last, skipped, left_out = told.runs
    assert (last.job_id, last.state) == (told.schedule.last_job_id, JobState.QUEUED)
    assert (skipped.job_id, "was missed and skipped" in skipped.message) == (None, True)
    assert (left_out.job_id, "was left out: owner ann has 1 jobs waiting" in left_out.message) == (None, True)

    assert last.job_id is not None
    cancel.cancel(database, last.job_id, "ann")
    assert scheduling.get_details(database, "ann", "nightly").runs[0].state is JobState.CANCELLED
    removal.remove(database, last.job_id)
    removed = scheduling.get_details(database, "ann", "nightly").runs[0]
    assert (removed.job_id, removed.state, removed.message) == (last.job_id, None, "the job was removed")

    scheduling.pause(database, "ann", "nightly")
    assert scheduling.get_details(database, "ann", "nightly").next_times == ()


def test_of_its_runs_the_last_ones_are_kept(
    database: Database, settings: Settings, submit_job: SubmitJob, celery: DccfCelery
) -> None:
    make(database, submit_job())
    for _ in range(stored.KEPT_RUNS + 2):
        bring_forward(database, 1)
        schedules.fire(celery, database, settings)
    runs = scheduling.get_details(database, "ann", "nightly").runs
    assert len(runs) == stored.KEPT_RUNS
    assert runs[0].job_id == get(database).last_job_id


def test_new_times_count_from_now_on_and_what_is_left_out_stays(database: Database, submit_job: SubmitJob) -> None:
    before = make(database, submit_job())
    changed = scheduling.change(database, "ann", "nightly", ScheduleChange(cron="0 4 * * *"))
    assert (changed.cron, changed.time_zone, changed.next_at.hour) == ("0 4 * * *", "UTC", 4)
    bring_forward(database, 1)
    due = get(database).next_at
    same = scheduling.change(database, "ann", "nightly", ScheduleChange(missed=Missed.ONE))
    assert (same.missed, same.next_at, same.bundle_id) == (Missed.ONE, due, before.bundle_id)
    for wanted in (ScheduleChange(), ScheduleChange(time_zone="Mars/Olympus")):
        with pytest.raises(errors.InvalidRequest):
            scheduling.change(database, "ann", "nightly", wanted)
    assert get(database) == same


def test_a_zone_that_is_no_longer_known_pauses_its_schedule_and_stops_no_other(
    database: Database, settings: Settings, celery: DccfCelery
) -> None:
    for name in ("nightly", "other"):
        make_of_files(database, settings, name)
    with database.begin() as tx:
        tx.execute(text("UPDATE schedule SET time_zone = 'Mars/Olympus' WHERE name = 'nightly'"))
    bring_forward(database, 1)
    assert schedules.fire(celery, database, settings) == 2
    assert (get(database).is_paused, "'Mars/Olympus' is not a time zone" in get(database).message) == (True, True)
    with database.begin() as tx:
        other = stored.get(tx, "ann", "other")
    assert other is not None
    assert (other.is_paused, other.message) == (False, "")


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
        ("@daily", "UTC", "#/cron"),
        ("61 0 * * *", "UTC", "#/cron"),
    ],
)
def test_an_expression_or_zone_that_is_none_is_named(expression: str, zone: str, pointer: str) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        cron.check(expression, zone)
    assert caught.value.errors[0].pointer == pointer


def test_an_expression_and_a_zone_that_are_none_are_named_at_once() -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        cron.check("nightly", "Berlin")
    assert [error.pointer for error in caught.value.errors] == ["#/cron", "#/time_zone"]


def local_times(expression: str, day: str, zone: str = "Europe/Berlin") -> list[str]:
    """List the times of one day by its own clock, with their distance from UTC, as a controller comes by them."""
    start = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone))
    found: list[str] = []
    at = (start - timedelta(seconds=1)).astimezone(UTC)
    while (at := cron.next_after(expression, zone, at)).astimezone(ZoneInfo(zone)).date() == start.date():
        found.append(at.astimezone(ZoneInfo(zone)).strftime("%H:%M%z")[:-2])
    return found


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("30 2 * * *", ["03:00+02"]),
        ("*/20 2 * * *", ["03:00+02"]),
        ("30 3 * * *", ["03:30+02"]),
        ("30 1-3 * * *", ["01:30+01", "03:00+02", "03:30+02"]),
    ],
)
def test_a_time_that_a_day_lacks_comes_once_when_the_clocks_have_gone_forward(
    expression: str, expected: list[str]
) -> None:
    assert local_times(expression, "2027-03-28") == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("30 2 * * *", ["02:30+02"]),
        ("*/30 2 * * *", ["02:00+02", "02:30+02"]),
        ("30 3 * * *", ["03:30+01"]),
        ("30 1-3 * * *", ["01:30+02", "02:30+02", "03:30+01"]),
    ],
)
def test_a_time_that_a_day_has_twice_comes_once_when_the_clocks_go_back(expression: str, expected: list[str]) -> None:
    assert local_times(expression, "2027-10-31") == expected


def test_what_is_for_every_hour_comes_every_hour_whatever_the_clocks_do() -> None:
    assert len(local_times("30 * * * *", "2027-03-28")) == 23
    assert len(local_times("30 * * * *", "2027-10-31")) == 25
    assert len(local_times("*/30 * * * *", "2027-10-31")) == 50


def test_a_schedule_that_is_made_between_two_equal_times_waits_for_the_next_day() -> None:
    between = datetime(2027, 10, 31, 0, 45, tzinfo=UTC)  # 02:45 in Berlin, and 02:30 comes once more
    assert cron.next_after("30 2 * * *", "Europe/Berlin", between) == datetime(2027, 11, 1, 1, 30, tzinfo=UTC)


def test_times_are_those_of_the_schedules_zone_in_summer_and_winter() -> None:
    winter = cron.next_after("30 3 * * *", "Europe/Berlin", datetime(2030, 1, 1, tzinfo=UTC))
    summer = cron.next_after("30 3 * * *", "Europe/Berlin", datetime(2030, 7, 1, tzinfo=UTC))
    assert (winter.hour, summer.hour) == (2, 1)
