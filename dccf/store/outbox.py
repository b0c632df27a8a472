"""Queries on the outbox that the job table is: which hints are due, which are out, what follows a job."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, case, func, or_, select, update

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


def take(tx: Connection, job_ids: Sequence[UUID], resend_seconds: float) -> list[Hint]:
    """Note the first hints of jobs as sent, those that are still due."""
    due = (
        select(job.c.id)
        .where(
            job.c.id.in_(job_ids), job.c.state == JobState.QUEUED, job.c.hints == 0, job.c.hint_after <= func.now()
        )
        .with_for_update(skip_locked=True)
    )
    return _note_hints(tx, job.c.id.in_(due.scalar_subquery()), resend_seconds) if job_ids else []


def take_again(tx: Connection, resend_seconds: float, limit: int) -> list[Hint]:
    """Note the next hints of jobs that still wait, or whose continuation is overdue, as sent.

    They need no room in their queue: they are already counted, or are no backlog. The next hint of
    the same job is due after ``resend_seconds``, doubled for every hint before.
    """
    due = (
        select(job.c.id)
        .where(
            job.c.hint_after.is_not(None),
            or_(job.c.state != JobState.QUEUED, job.c.hints > 0),
            job.c.hint_after <= func.now(),
        )
        .order_by(job.c.hint_after)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return _note_hints(tx, job.c.id.in_(due.scalar_subquery()), resend_seconds)


def call_unanswered(tx: Connection, queues: Collection[str], after_seconds: float) -> int:
    """Make hints due again that nobody answered although a worker of their queue is idle; give their number.

    The first wait is ``after_seconds``; it doubles with every hint of the same job.
    """
    if not queues:
        return 0
    wait = func.least(after_seconds * func.power(2, job.c.hints - 1), LONGEST_RESEND_SECONDS)
    statement = (
        update(job)
        .where(
            job.c.state == JobState.QUEUED,
            job.c.hints > 0,
            job.c.queue.in_(queues),
            job.c.hint_after > func.now(),
            job.c.hinted_at + seconds(wait) < func.now(),
        )
        .values(hint_after=func.now())
    )
    return int(tx.execute(statement).rowcount)


def _note_hints(tx: Connection, which: ColumnElement[bool], resend_seconds: float) -> list[Hint]:
    doubled = resend_seconds * func.power(2, func.least(job.c.hints, _MAX_HINT_DOUBLINGS))
    wait = seconds(func.least(doubled, max(resend_seconds, LONGEST_RESEND_SECONDS)))
    statement = (
        update(job)
        .where(which)
        .values(hints=job.c.hints + 1, hint_after=func.now() + wait, hinted_at=func.now())
        .returning(job.c.id, job.c.queue, job.c.celery_message, job.c.hints)
    )
    return [Hint(row.id, row.queue, row.celery_message, row.hints - 1) for row in tx.execute(statement)]


def put_back(tx: Connection, job_ids: Sequence[UUID], retry_seconds: float) -> None:
    """Note that hints could not be sent, or brought nothing, so that they are due again soon."""
    tx.execute(
        update(job)
        .where(job.c.id.in_(job_ids), job.c.hint_after.is_not(None))
        .values(hints=func.greatest(job.c.hints - 1, 0), hint_after=func.now() + seconds(retry_seconds))
    )


def finish_continuation(tx: Connection, job_id: UUID, state: JobState) -> None:
    """Note that everything that follows a finished job has been sent."""
    if state not in FINAL_STATES:
        raise ValueError(f"{state} is not a final state")
    tx.execute(
        update(job)
        .where(job.c.id == job_id, job.c.state == state, job.c.continuation_pending)
        .values(continuation_pending=False, hint_after=None)
    )


def call_continuation(tx: Connection, job_id: UUID) -> None:
    """Make the hint for what follows an ended job due now: nobody else is about to send it."""
    tx.execute(
        update(job)
        .where(job.c.id == job_id, job.c.state.in_(FINAL_STATES), job.c.continuation_pending)
        .values(hint_after=func.now())
    )


def is_continuation_pending(tx: Connection, job_id: UUID) -> bool:
    """Tell whether a job's continuation has still to be sent."""
    return bool(tx.execute(select(job.c.continuation_pending).where(job.c.id == job_id)).scalar())


def when_continuation_is_overdue(grace_seconds: float) -> ColumnElement[Any]:
    """Give, for a job that ends now, the time of the first hint for its continuation, if it has one."""
    return case((job.c.continuation_pending, func.now() + seconds(grace_seconds)))
