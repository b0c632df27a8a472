"""Schedules: made, paused, resumed and removed by people, fired by controllers."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import Connection

from dccf import errors
from dccf.administration import NewSchedule, Schedule
from dccf.lifecycle import channels, cron
from dccf.models import Job
from dccf.store import jobs, schedules
from dccf.store.database import Database


def create(database: Database, job: Job, new: NewSchedule) -> Schedule:
    """Make a schedule that makes a job again and again, for the job's owner.

    Raises:
        InvalidRequest: the expression or the time zone is none.
        Conflict: the owner has a schedule of that name.
        StoreUnavailable: PostgreSQL is away.
    """
    cron.check(new.cron, new.time_zone)
    with database.begin() as tx:
        # The job's row keeps its bundle from being removed meanwhile, and two equal creates apart.
        if jobs.lock(tx, job.id) is None:
            raise errors.NotFound(f"there is no job {job.id}")
        if schedules.get(tx, job.owner, new.name) is not None:
            raise errors.Conflict(
                f"{job.owner} has a schedule named {new.name!r} already; remove it, or choose another name"
            )
        schedules.add(
            tx,
            job.owner,
            new.name,
            cron=new.cron,
            time_zone=new.time_zone,
            missed=new.missed,
            spec=job.spec.model_copy(update={"run_after": None}),
            bundle_id=job.bundle_id,
            next_at=cron.next_after(new.cron, new.time_zone, jobs.get_now(tx)),
        )
        return _require(schedules.get(tx, job.owner, new.name), new.name)


def pause(database: Database, owner: str, name: str) -> Schedule:
    """Let a schedule make no jobs; again is no harm.

    Raises:
        NotFound: there is none.
        StoreUnavailable: PostgreSQL is away.
    """
    with database.begin() as tx:
        _require(schedules.get(tx, owner, name), name)
        schedules.change(tx, owner, name, is_paused=True)
        return _require(schedules.get(tx, owner, name), name)


def resume(database: Database, owner: str, name: str) -> Schedule:
    """Let a schedule make jobs again, from its next time on: what it missed while it was paused it was to miss.

    Raises:
        NotFound: there is none.
        StoreUnavailable: PostgreSQL is away.
    """
    with database.begin() as tx:
        found = _require(schedules.get(tx, owner, name), name)
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
        _require(schedules.get(tx, owner, name), name)
        schedules.remove(tx, owner, name)


def note_fired(tx: Connection, due: Schedule, job_id: UUID | None, message: str) -> None:
    """Note that a schedule's time has come, what became of it, and when the next one is."""
    now = jobs.get_now(tx)
    values = {"next_at": cron.next_after(due.cron, due.time_zone, now), "message": message}
    if job_id is not None:
        values |= {"last_at": now, "last_job_id": job_id}
        jobs.notify(tx, channels.WORK_TO_DO, "")
    schedules.change(tx, due.owner, due.name, **values)


def _require(found: Schedule | None, name: str) -> Schedule:
    if found is None:
        raise errors.NotFound(f"there is no schedule {name!r}")
    return found
