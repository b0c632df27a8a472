"""Schedules: made, changed, paused, resumed and removed by people, fired by controllers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from dccf import errors
from dccf.administration import NewSchedule, Schedule, ScheduleChange, ScheduleDetails
from dccf.errors import FieldError
from dccf.lifecycle import channels, cron
from dccf.models import Job, JobSpec
from dccf.store import jobs, schedules
from dccf.store.database import Database

#: Next times that the details show.
SHOWN_TIMES = 5


@dataclass(frozen=True)
class Made:
    """A schedule, and whether this very call made it."""

    schedule: Schedule
    is_new: bool


def create(
    database: Database,
    owner: str,
    new: NewSchedule,
    spec: JobSpec,
    make_bundle: Callable[[Connection], UUID],
    key: str | None = None,
) -> Made:
    """Make a schedule of files and options; ``make_bundle`` stores the files in the same transaction.

    The same idempotency key and name again give what was made by them before.

    Raises:
        InvalidRequest: the expression or the time zone is none, or the options say when to start.
        Conflict: the owner has a schedule of that name.
        StoreUnavailable: PostgreSQL is away.
    """
    cron.check(new.cron, new.time_zone)
    if spec.run_after is not None:
        problem = FieldError("#/run_after", "a schedule says when its jobs start; leave run_after out")
        raise errors.InvalidRequest(problem.detail, (problem,))
    with database.begin() as tx:
        return _add(tx, owner, new, spec, make_bundle(tx), key)


def create_of_job(database: Database, job: Job, new: NewSchedule, key: str | None = None) -> Made:
    """Make a schedule that makes a job again and again, for the job's owner.

    The same idempotency key and name again give what was made by them before.

    Raises:
        InvalidRequest: the expression or the time zone is none.
        NotFound: the job was removed.
        Conflict: the owner has a schedule of that name.
        StoreUnavailable: PostgreSQL is away.
    """
    cron.check(new.cron, new.time_zone)
    with database.begin() as tx:
        # The job's row keeps its bundle from being removed meanwhile.
        if jobs.lock(tx, job.id) is None:
            raise errors.NotFound(f"there is no job {job.id}")
        spec = job.spec.model_copy(update={"run_after": None})
        return _add(tx, job.owner, new, spec, job.bundle_id, key)


def _add(tx: Connection, owner: str, new: NewSchedule, spec: JobSpec, bundle_id: UUID, key: str | None) -> Made:
    next_at = cron.next_after(new.cron, new.time_zone, jobs.get_now(tx))
    is_new = schedules.add(tx, owner, new, spec=spec, bundle_id=bundle_id, next_at=next_at, idempotency_key=key)
    if not is_new and not (key is not None and schedules.was_made_with(tx, owner, new.name, key)):
        raise errors.Conflict(
            f"{owner} has a schedule named {new.name!r} already; choose another name, remove that one first "
            f"(dccf schedules rm {new.name}), or change its times (dccf schedules edit {new.name})"
        )
    return Made(_require(schedules.get(tx, owner, new.name), new.name), is_new)


def get_details(database: Database, owner: str, name: str) -> ScheduleDetails:
    """Get a schedule with its next times and its last runs.

    Raises:
        NotFound: there is none.
        StoreUnavailable: PostgreSQL is away.
    """
    with database.begin() as tx:
        found = _require(schedules.get(tx, owner, name), name)
        runs = schedules.find_runs(tx, owner, name)
    return ScheduleDetails(schedule=found, next_times=_next_times(found), runs=runs)


def _next_times(schedule: Schedule) -> tuple[datetime, ...]:
    if schedule.is_paused:
        return ()
    times = [schedule.next_at]
    while len(times) < SHOWN_TIMES:
        try:
            times.append(cron.next_after(schedule.cron, schedule.time_zone, times[-1]))
        except errors.InvalidRequest:  # there are no more
            break
    return tuple(times)


def change(database: Database, owner: str, name: str, wanted: ScheduleChange) -> Schedule:
    """Change when a schedule makes jobs; new times count from now on.

    Raises:
        InvalidRequest: the expression or the time zone is none, or nothing is to be changed.
        NotFound: there is none.
        StoreUnavailable: PostgreSQL is away.
    """
    values: dict[str, Any] = wanted.model_dump(exclude_none=True)
    if not values:
        raise errors.InvalidRequest(
            "say what to change: cron, time_zone or missed; for other files or options remove the schedule and "
            "make it anew"
        )
    with database.begin() as tx:
        found = lock(tx, owner, name)
        new_cron, new_zone = values.get("cron", found.cron), values.get("time_zone", found.time_zone)
        if (new_cron, new_zone) != (found.cron, found.time_zone):
            cron.check(new_cron, new_zone)
            values["next_at"] = cron.next_after(new_cron, new_zone, jobs.get_now(tx))
        schedules.change(tx, owner, name, **values)
        return _require(schedules.get(tx, owner, name), name)


def pause(database: Database, owner: str, name: str) -> Schedule:
    """Let a schedule make no jobs; again is no harm.

    Raises:
        NotFound: there is none.
        StoreUnavailable: PostgreSQL is away.
    """
    with database.begin() as tx:
        lock(tx, owner, name)
        schedules.change(tx, owner, name, is_paused=True)
        return _require(schedules.get(tx, owner, name), name)


def resume(database: Database, owner: str, name: str) -> Schedule:
    """Let a schedule make jobs again, from its next time on: what it missed while it was paused it was to miss.

    Raises:
        NotFound: there is none.
        StoreUnavailable: PostgreSQL is away.
    """
    with database.begin() as tx:
        found = lock(tx, owner, name)
        if found.is_paused:
            next_at = cron.next_after(found.cron, found.time_zone, jobs.get_now(tx))
            schedules.change(tx, owner, name, is_paused=False, next_at=next_at)
        return _require(schedules.get(tx, owner, name), name)


def remove(database: Database, owner: str, name: str) -> None:
    """Remove a schedule; the jobs that it made stay.

    Raises:
        NotFound: there is none.
        StoreUnavailable: PostgreSQL is away.
    """
    with database.begin() as tx:
        lock(tx, owner, name)
        schedules.remove(tx, owner, name)


def lock(tx: Connection, owner: str, name: str) -> Schedule:
    """Get a schedule, and keep others from changing it until the transaction ends.

    Raises:
        NotFound: there is none.
    """
    return _require(schedules.lock(tx, owner, name), name)


def note_fired(tx: Connection, due: Schedule, job_id: UUID | None, message: str) -> None:
    """Note that a schedule's time has come, what became of it, and when the next one is.

    A schedule that has no next time any more, since its zone is not known here, is paused and says so.
    """
    schedules.add_run(tx, due, due.next_at, job_id, message)
    values: dict[str, Any] = {"message": message}
    try:
        values["next_at"] = cron.next_after(due.cron, due.time_zone, jobs.get_now(tx))
    except errors.InvalidRequest as error:
        values |= {"is_paused": True, "message": f"paused, since it has no next time: {error}"}
    _note(tx, due, job_id, values)


def note_asked(tx: Connection, schedule: Schedule, job_id: UUID) -> None:
    """Note that somebody had a schedule make a job now; its times stay as they are."""
    schedules.add_run(tx, schedule, jobs.get_now(tx), job_id, "")
    _note(tx, schedule, job_id, {})


def _note(tx: Connection, schedule: Schedule, job_id: UUID | None, values: dict[str, Any]) -> None:
    if job_id is not None:
        values |= {"last_at": jobs.get_now(tx), "last_job_id": job_id}
        jobs.notify(tx, channels.WORK_TO_DO, "")
    schedules.change(tx, schedule.owner, schedule.name, **values)


def _require(found: Schedule | None, name: str) -> Schedule:
    if found is None:
        raise errors.NotFound(f"there is no schedule {name[:100]!r}; dccf schedules lists those that there are")
    return found
