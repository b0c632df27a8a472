"""Queries on schedules."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as insert_or_not

from dccf.administration import NewSchedule, Schedule, ScheduleRun
from dccf.models import JobSpec, JobState, Reason, StoredSpec
from dccf.store.tables import job, schedule, schedule_run

#: Runs that are kept of one schedule.
KEPT_RUNS = 20

_FIELDS = tuple(name for name in Schedule.model_fields if name != "spec")


def _from_row(row: Row[Any]) -> Schedule:
    values = {name: getattr(row, name) for name in _FIELDS}
    return Schedule.model_validate({**values, "spec": StoredSpec.model_validate(row.spec)})


def _is(owner: str, name: str) -> ColumnElement[bool]:
    return and_(schedule.c.owner == owner, schedule.c.name == name)


def add(
    tx: Connection,
    owner: str,
    new: NewSchedule,
    *,
    spec: JobSpec,
    bundle_id: UUID,
    next_at: datetime,
    idempotency_key: str | None,
) -> bool:
    """Store a new schedule; tell whether its name was free."""
    statement = (
        insert_or_not(schedule)
        .values(
            owner=owner,
            **new.model_dump(include={"name", "cron", "time_zone", "missed"}),
            spec=spec.model_dump(mode="json"),
            bundle_id=bundle_id,
            next_at=next_at,
            idempotency_key=idempotency_key,
        )
        .on_conflict_do_nothing()
    )
    return int(tx.execute(statement).rowcount) == 1


def get(tx: Connection, owner: str, name: str) -> Schedule | None:
    """Get a schedule."""
    row = tx.execute(select(schedule).where(_is(owner, name))).first()
    return None if row is None else _from_row(row)


def lock(tx: Connection, owner: str, name: str) -> Schedule | None:
    """Get a schedule, and keep others from changing it until the transaction ends."""
    row = tx.execute(select(schedule).where(_is(owner, name)).with_for_update()).first()
    return None if row is None else _from_row(row)


def was_made_with(tx: Connection, owner: str, name: str, idempotency_key: str) -> bool:
    """Tell whether a schedule was made by a request with this key."""
    statement = select(schedule.c.idempotency_key == idempotency_key).where(_is(owner, name))
    return tx.execute(statement).scalar() is True


def find(tx: Connection, owner: str | None) -> tuple[Schedule, ...]:
    """List an owner's schedules, or everybody's."""
    statement = select(schedule).order_by(schedule.c.owner, schedule.c.name)
    if owner is not None:
        statement = statement.where(schedule.c.owner == owner)
    return tuple(_from_row(row) for row in tx.execute(statement))


def lock_due(tx: Connection, limit: int) -> list[Schedule]:
    """Take schedules whose time has come; another controller skips those that one has taken."""
    statement = (
        select(schedule)
        .where(~schedule.c.is_paused, schedule.c.next_at <= func.now())
        .order_by(schedule.c.next_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return [_from_row(row) for row in tx.execute(statement)]


def change(tx: Connection, owner: str, name: str, **values: Any) -> None:
    """Change a schedule."""
    tx.execute(update(schedule).where(_is(owner, name)).values(values))


def remove(tx: Connection, owner: str, name: str) -> None:
    """Remove a schedule; the jobs that it made stay."""
    tx.execute(delete(schedule).where(_is(owner, name)))


def add_run(tx: Connection, due: Schedule, due_at: datetime, job_id: UUID | None, message: str) -> None:
    """Note what became of one time of a schedule, and forget the oldest ones; the schedule is locked."""
    tx.execute(
        insert(schedule_run).values(owner=due.owner, name=due.name, due_at=due_at, job_id=job_id, message=message)
    )
    is_its = and_(schedule_run.c.owner == due.owner, schedule_run.c.name == due.name)
    oldest_kept = (
        select(schedule_run.c.seq)
        .where(is_its)
        .order_by(schedule_run.c.seq.desc())
        .offset(KEPT_RUNS - 1)
        .limit(1)
        .scalar_subquery()
    )
    tx.execute(delete(schedule_run).where(is_its, schedule_run.c.seq < oldest_kept))


def find_runs(tx: Connection, owner: str, name: str) -> tuple[ScheduleRun, ...]:
    """List the last runs of a schedule with how their jobs stand, newest first."""
    statement = (
        select(
            schedule_run.c.due_at,
            schedule_run.c.job_id,
            schedule_run.c.message.label("why_none"),
            job.c.state,
            job.c.reason,
            job.c.exit_code,
            job.c.message,
        )
        .outerjoin(job, job.c.id == schedule_run.c.job_id)
        .where(schedule_run.c.owner == owner, schedule_run.c.name == name)
        .order_by(schedule_run.c.seq.desc())
    )
    return tuple(_run_from_row(*row) for row in tx.execute(statement))


def _run_from_row(
    due_at: datetime,
    job_id: UUID | None,
    why_none: str,
    state: JobState | None,
    reason: Reason | None,
    exit_code: int | None,
    message: str,
) -> ScheduleRun:
    if job_id is None:
        message = why_none
    elif state is None:
        message = "the job was removed"
    return ScheduleRun(due_at=due_at, job_id=job_id, state=state, reason=reason, exit_code=exit_code, message=message)
