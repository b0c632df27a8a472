"""Queries on jobs whose time limits are over."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import Column, Connection, func, select

from dccf.models import Job, JobState
from dccf.store.jobs import from_row
from dccf.store.tables import job


def lock_queue_timed_out(tx: Connection, limit: int) -> list[Job]:
    """Take jobs that no worker took within their queue time limit."""
    return _lock_past(tx, job.c.queue_deadline_at, limit)


def lock_job_timed_out(tx: Connection, limit: int) -> list[Job]:
    """Take waiting jobs whose time limit as a whole is over; those that run are stopped by their workers."""
    return _lock_past(tx, job.c.deadline_at, limit)


def _lock_past(tx: Connection, deadline: Column[object], limit: int) -> list[Job]:
    statement = (
        select(job)
        .where(job.c.state == JobState.QUEUED, deadline.is_not(None), deadline < func.now())
        .order_by(deadline)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return [from_row(row) for row in tx.execute(statement)]


def find_overdue(tx: Connection, lease_owner: str) -> set[UUID]:
    """List the jobs that one worker holds whose time limit as a whole is over."""
    statement = select(job.c.id).where(
        job.c.lease_owner == lease_owner, job.c.lease_expires_at.is_not(None), job.c.deadline_at < func.now()
    )
    return set(tx.execute(statement).scalars())
