"""Queries on attempts and on the events that people read."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import Connection, func, insert, select, update

from dccf.models import Attempt, JobEvent, JobState
from dccf.store.tables import attempt, job_event


def open_attempt(tx: Connection, job_id: UUID, fence: int, worker: str) -> None:
    """Begin the record of an attempt."""
    tx.execute(insert(attempt).values(job_id=job_id, fence=fence, worker=worker))


def change_attempt(tx: Connection, job_id: UUID, fence: int, **values: Any) -> None:
    """Add to the record of an attempt that has not ended."""
    tx.execute(
        update(attempt)
        .where(attempt.c.job_id == job_id, attempt.c.fence == fence, attempt.c.finished_at.is_(None))
        .values(values)
    )


def close_attempt(tx: Connection, job_id: UUID, fence: int, outcome: str, **values: Any) -> None:
    """End the record of an attempt; the first end stands."""
    change_attempt(tx, job_id, fence, outcome=outcome, finished_at=func.now(), **values)


def get_attempts(tx: Connection, job_id: UUID) -> tuple[Attempt, ...]:
    """List a job's attempts, first to last."""
    rows = tx.execute(select(attempt).where(attempt.c.job_id == job_id).order_by(attempt.c.fence))
    return tuple(Attempt.model_validate(dict(row._mapping)) for row in rows)


def add_event(tx: Connection, job_id: UUID, state: JobState, fence: int, message: str) -> None:
    """Add a line to a job's history."""
    tx.execute(insert(job_event).values(job_id=job_id, state=state, fence=fence, message=message))


def get_events(tx: Connection, job_id: UUID, after_seq: int = 0) -> tuple[JobEvent, ...]:
    """List a job's history, oldest first."""
    columns = (job_event.c.seq, job_event.c.at, job_event.c.state, job_event.c.fence, job_event.c.message)
    rows = tx.execute(
        select(*columns).where(job_event.c.job_id == job_id, job_event.c.seq > after_seq).order_by(job_event.c.seq)
    )
    return tuple(JobEvent.model_validate(dict(row._mapping)) for row in rows)
