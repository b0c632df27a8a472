"""Queries on leases: who holds which attempt, until when. Only :mod:`dccf.lifecycle` may call those that write."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, and_, func, select, update

from dccf.models import ACTIVE_STATES, Job, JobState
from dccf.store.jobs import from_row, seconds
from dccf.store.tables import job


def extend(
    tx: Connection, lease_owner: str, job_ids: Collection[UUID], lease_seconds: float
) -> set[tuple[UUID, int]]:
    """Push the ends of leases out; give the attempts, as job and fence, whose lease this owner still holds."""
    statement = (
        update(job)
        .where(job.c.id.in_(job_ids), job.c.lease_owner == lease_owner, job.c.state.in_(ACTIVE_STATES))
        .values(lease_expires_at=func.now() + seconds(lease_seconds))
        .returning(job.c.id, job.c.fence)
    )
    return {(row.id, row.fence) for row in tx.execute(statement)}


def find_held(tx: Connection, lease_owner: str) -> set[tuple[UUID, int]]:
    """List the attempts, as job and fence, that one worker holds a lease for."""
    statement = select(job.c.id, job.c.fence).where(
        job.c.lease_owner == lease_owner, job.c.lease_expires_at.is_not(None)
    )
    return {(row.id, row.fence) for row in tx.execute(statement)}


def find_cancel_requests(tx: Connection, lease_owner: str) -> set[UUID]:
    """List the jobs of one worker that somebody wants cancelled."""
    statement = select(job.c.id).where(
        job.c.lease_owner == lease_owner, job.c.lease_expires_at.is_not(None), job.c.cancel_requested
    )
    return set(tx.execute(statement).scalars())


def lock_expired(tx: Connection, limit: int) -> list[Job]:
    """Take jobs whose lease has run out; another controller skips those that one has taken."""
    statement = (
        select(job)
        .where(job.c.lease_expires_at < func.now())
        .order_by(job.c.lease_expires_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return [from_row(row) for row in tx.execute(statement)]


def _is_held_by_earlier(worker: str, lease_owner: str, states: Collection[JobState]) -> ColumnElement[bool]:
    return and_(
        job.c.worker == worker,
        job.c.lease_owner != lease_owner,
        job.c.state.in_(states),
        job.c.lease_expires_at.is_not(None),  # else no index is of use, and every job that ever was is read
    )


def lock_leased_by_earlier(
    tx: Connection, worker: str, lease_owner: str, states: Collection[JobState] = ACTIVE_STATES
) -> list[Job]:
    """Take the jobs that earlier lives of a worker (same name, other lease owner) still hold."""
    statement = select(job).where(_is_held_by_earlier(worker, lease_owner, states)).with_for_update()
    return [from_row(row) for row in tx.execute(statement)]


def take_over(
    tx: Connection, worker: str, lease_owner: str, states: Collection[JobState], lease_seconds: float
) -> list[Job]:
    """Move the leases that earlier lives of a worker still hold to this one; the attempts stay the same."""
    statement = (
        update(job)
        .where(_is_held_by_earlier(worker, lease_owner, states))
        .values(lease_owner=lease_owner, lease_expires_at=func.now() + seconds(lease_seconds))
        .returning(*job.c)
    )
    return [from_row(row) for row in tx.execute(statement)]


def extend_all(tx: Connection, lease_seconds: float) -> int:
    """Give every lease its full length again, after an outage in which nobody could renew."""
    statement = (
        update(job)
        .where(job.c.lease_expires_at.is_not(None))
        .values(lease_expires_at=func.greatest(job.c.lease_expires_at, func.now() + seconds(lease_seconds)))
    )
    return int(tx.execute(statement).rowcount)
