"""Queries on the outbox that the job table is: which hints are due, which are out, what follows a job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, and_, case, func, or_, select, text, true, update

from dccf.models import FINAL_STATES, JobState
from dccf.store.jobs import seconds
from dccf.store.tables import job

#: The wait between two hints of a job doubles up to this, unless the first is longer already.
LONGEST_RESEND_SECONDS = 900.0
_MAX_HINT_DOUBLINGS = 8


@dataclass(frozen=True)
class Hint:
    """A Celery message to send: the same for every hint of one job."""

    job_id: UUID
    queue: str
    celery_message: str
    #: How many hints were sent before this one.
    sent_before: int


def take_due(tx: Connection, resend_seconds: float, room: Mapping[str, int], limit: int) -> list[Hint]:
    """Pick hints that are due, fairly by owner, and note them as sent.

    ``room`` says how many first hints each queue may still get; queues that it does not name get
    none. A hint sent before, or the message of a finished job whose continuation is overdue, needs
    no room: it is already counted or is no backlog. The next hint of the same job is due after
    ``resend_seconds``, doubled for every hint before.
    """
    is_first = and_(job.c.state == JobState.QUEUED, job.c.hints == 0)
    turn = func.row_number().over(
        partition_by=(job.c.queue, job.c.owner, is_first), order_by=(job.c.hint_after, job.c.id)
    )
    due = (
        select(job.c.id, job.c.queue, job.c.hint_after, is_first.label("is_first"), turn.label("turn"))
        .where(job.c.hint_after <= func.now())
        .cte("due")
    )
    place = func.row_number().over(
        partition_by=(due.c.queue, due.c.is_first), order_by=(due.c.turn, due.c.hint_after, due.c.id)
    )
    placed = select(due, place.label("place")).cte("placed")
    has_room = or_(
        ~placed.c.is_first,
        *[and_(placed.c.queue == queue, placed.c.place <= slots) for queue, slots in room.items()],
    )
    chosen = select(placed.c.id).where(has_room).order_by(placed.c.turn, placed.c.place).limit(limit)
    locked = (
        select(job.c.id)
        .where(job.c.id.in_(chosen.scalar_subquery()), job.c.hint_after <= func.now())
        .with_for_update(skip_locked=True)
    )
    return _note_hints(tx, job.c.id.in_(locked.scalar_subquery()), resend_seconds)


def take_first(tx: Connection, job_id: UUID, resend_seconds: float, room: int) -> list[Hint]:
    """Note the first hint of one new job as sent, if it is due and its queue has room for it."""
    outstanding = (
        select(func.count())
        .select_from(job.alias("other"))
        .where(text("other.queue = job.queue AND other.state = 'queued' AND other.hints > 0"))
        .scalar_subquery()
    )
    due = and_(job.c.id == job_id, job.c.hints == 0, job.c.hint_after <= func.now(), outstanding < room)
    return _note_hints(tx, due, resend_seconds)


def _note_hints(tx: Connection, which: ColumnElement[bool], resend_seconds: float) -> list[Hint]:
    doubled = resend_seconds * func.power(2, func.least(job.c.hints, _MAX_HINT_DOUBLINGS))
    wait = seconds(func.least(doubled, max(resend_seconds, LONGEST_RESEND_SECONDS)))
    statement = (
        update(job)
        .where(which)
        .values(hints=job.c.hints + 1, hint_after=func.now() + wait)
        .returning(job.c.id, job.c.queue, job.c.celery_message, job.c.hints)
    )
    return [Hint(row.id, row.queue, row.celery_message, row.hints - 1) for row in tx.execute(statement)]


def put_back(tx: Connection, job_ids: Sequence[UUID], retry_seconds: float) -> None:
    """Note that hints could not be sent, so that they are due again soon."""
    tx.execute(
        update(job)
        .where(job.c.id.in_(job_ids), job.c.hint_after.is_not(None))
        .values(hints=func.greatest(job.c.hints - 1, 0), hint_after=func.now() + seconds(retry_seconds))
    )


def count_outstanding(tx: Connection) -> dict[str, int]:
    """Count, per queue with queued jobs, the hints that the broker holds."""
    outstanding = func.count(case((job.c.hints > 0, true())))
    rows = tx.execute(select(job.c.queue, outstanding).where(job.c.state == JobState.QUEUED).group_by(job.c.queue))
    return dict(rows.all())


def finish_continuation(tx: Connection, job_id: UUID, state: JobState) -> None:
    """Note that everything that follows a finished job has been sent."""
    if state not in FINAL_STATES:
        raise ValueError(f"{state} is not a final state")
    tx.execute(
        update(job)
        .where(job.c.id == job_id, job.c.state == state, job.c.continuation_pending)
        .values(continuation_pending=False, hint_after=None)
    )


def is_continuation_pending(tx: Connection, job_id: UUID) -> bool:
    """Tell whether a job's continuation has still to be sent."""
    return bool(tx.execute(select(job.c.continuation_pending).where(job.c.id == job_id)).scalar())


def when_continuation_is_overdue(grace_seconds: float) -> ColumnElement[Any]:
    """Give, for a job that ends now, the time of the first hint for its continuation, if it has one."""
    return case((job.c.continuation_pending, func.now() + seconds(grace_seconds)))
