"""Queries on schedules."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, func, insert, select, update

from dccf.administration import Missed, Schedule
from dccf.models import JobSpec
from dccf.store.tables import schedule

_FIELDS = tuple(name for name in Schedule.model_fields if name != "spec")


def _from_row(row: Row[Any]) -> Schedule:
    values = {name: getattr(row, name) for name in _FIELDS}
    return Schedule.model_validate({**values, "spec": JobSpec.model_validate(row.spec)})


def _is(owner: str, name: str) -> ColumnElement[bool]:
    return and_(schedule.c.owner == owner, schedule.c.name == name)


def add(
    tx: Connection,
    owner: str,
    name: str,
    *,
    cron: str,
    time_zone: str,
    missed: Missed,
    spec: JobSpec,
    bundle_id: UUID,
    next_at: datetime,
) -> None:
    """Store a new schedule."""
    tx.execute(
        insert(schedule).values(
            owner=owner,
            name=name,
            cron=cron,
            time_zone=time_zone,
            missed=missed,
            spec=spec.model_dump(mode="json"),
            bundle_id=bundle_id,
            next_at=next_at,
        )
    )


def get(tx: Connection, owner: str, name: str) -> Schedule | None:
    """Get a schedule, and keep others from changing it until the transaction ends."""
    row = tx.execute(select(schedule).where(_is(owner, name)).with_for_update()).first()
    return None if row is None else _from_row(row)


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
