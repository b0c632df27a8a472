"""Queries on jobs. Only :mod:`dccf.lifecycle` may call those that write."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    func,
    literal,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from dccf.models import ACTIVE_STATES, Job, JobSpec, JobState, StoredSpec
from dccf.store.tables import job


@dataclass(frozen=True)
class NewJob:
    """A job about to be submitted."""

    id: UUID
    owner: str
    spec: JobSpec
    bundle_id: UUID
    inputs: tuple[UUID, ...]
    celery_message: str
    has_continuation: bool
    max_attempts: int
    idempotency_key: str | None = None
    request_hash: bytes | None = None
    #: It goes on with a canvas whose first job was admitted; the owner's limit does not break it off half-way.
    is_admitted: bool = False


@dataclass(frozen=True)
class Page:
    """One page of a listing, and the key that the next one starts after."""

    items: tuple[Job, ...]
    next_key: tuple[datetime, UUID] | None


def seconds(value: float | ColumnElement[Any]) -> ColumnElement[Any]:
    """Give an SQL interval of so many seconds."""
    return func.make_interval(0, 0, 0, 0, 0, 0, value)


def from_row(row: Row[Any]) -> Job:
    """Make the frozen value of a row of the job table."""
    values = {name: getattr(row, name) for name in _JOB_FIELDS}
    values["spec"] = StoredSpec.model_validate(row.spec)
    values["inputs"] = tuple(row.inputs)
    return Job.model_validate(values)


_ID_DIGITS = 32
_JOB_FIELDS = tuple(name for name in Job.model_fields if name not in {"spec", "inputs"})


def insert_new(tx: Connection, new: NewJob, message: str) -> bool:
    """Insert a queued job; tell whether it was new (its id and its idempotency key were free)."""
    run_after = func.coalesce(literal(new.spec.run_after), func.now())
    statement = (
        insert(job)
        .values(
            id=new.id,
            owner=new.owner,
            queue=new.spec.queue,
            state=JobState.QUEUED,
            message=message,
            spec=new.spec.model_dump(mode="json"),
            bundle_id=new.bundle_id,
            inputs=list(new.inputs),
            celery_message=new.celery_message,
            continuation_pending=new.has_continuation,
            max_attempts=new.max_attempts,
            run_after=run_after,
            hint_after=run_after,
            queue_deadline_at=_later(run_after, new.spec.queue_timeout_seconds),
            deadline_at=_later(run_after, new.spec.job_timeout_seconds),
            idempotency_key=new.idempotency_key,
            request_hash=new.request_hash,
        )
        .on_conflict_do_nothing()
        .returning(job.c.id)
    )
    return tx.execute(statement).first() is not None


def _later(start: ColumnElement[Any], wait_seconds: float | None) -> ColumnElement[Any] | None:
    return None if wait_seconds is None else start + seconds(wait_seconds)


def get(tx: Connection, job_id: UUID) -> Job | None:
    """Get a job by its id."""
    row = tx.execute(select(job).where(job.c.id == job_id)).first()
    return None if row is None else from_row(row)


def get_by_idempotency_key(tx: Connection, owner: str, key: str) -> tuple[Job, bytes | None] | None:
    """Get the job that an owner submitted with this key, and the hash of that request."""
    row = tx.execute(select(job).where(job.c.owner == owner, job.c.idempotency_key == key)).first()
    return None if row is None else (from_row(row), row.request_hash)


def get_many(tx: Connection, job_ids: Collection[UUID]) -> list[Job]:
    """Get those of the jobs that exist."""
    return [from_row(row) for row in tx.execute(select(job).where(job.c.id.in_(job_ids)))]


def find(
    tx: Connection,
    owner: str | None,
    states: Collection[JobState] = (),
    labels: Mapping[str, str] | None = None,
    after: tuple[datetime, UUID] | None = None,
    limit: int = 50,
) -> Page:
    """List jobs, newest first; ``owner=None`` means everybody's."""
    statement = select(job).order_by(job.c.created_at.desc(), job.c.id.desc()).limit(limit + 1)
    if owner is not None:
        statement = statement.where(job.c.owner == owner)
    if states:
        statement = statement.where(job.c.state.in_(states))
    if labels:
        statement = statement.where(job.c.spec["labels"].contains(dict(labels)))
    if after is not None:
        statement = statement.where(
            or_(job.c.created_at < after[0], and_(job.c.created_at == after[0], job.c.id < after[1]))
        )
    found = [from_row(row) for row in tx.execute(statement)]
    next_key = (found[limit - 1].created_at, found[limit - 1].id) if len(found) > limit else None
    return Page(tuple(found[:limit]), next_key)


def find_by_prefix(tx: Connection, digits: str, owner: str | None, limit: int = 2) -> list[UUID]:
    """List the ids that start with these hexadecimal digits, without dashes: a range of the primary key."""
    first, last = UUID(digits.ljust(_ID_DIGITS, "0")), UUID(digits.ljust(_ID_DIGITS, "f"))
    statement = select(job.c.id).where(job.c.id.between(first, last)).limit(limit)
    if owner is not None:
        statement = statement.where(job.c.owner == owner)
    return list(tx.execute(statement).scalars())


def claim(
    tx: Connection, job_id: UUID, lease_owner: str, worker: str, lease_seconds: float, message: str
) -> Job | None:
    """Take a queued job under a lease, if it may start now; at most one caller wins."""
    statement = (
        update(job)
        .where(
            job.c.id == job_id,
            job.c.state == JobState.QUEUED,
            job.c.run_after <= func.now(),
            ~job.c.cancel_requested,
            or_(job.c.deadline_at.is_(None), job.c.deadline_at > func.now()),
        )
        .values(
            state=JobState.BUILDING,
            message=message,
            fence=job.c.fence + 1,
            lease_owner=lease_owner,
            worker=worker,
            lease_expires_at=func.now() + seconds(lease_seconds),
            hint_after=None,
            waiting_for=0,
            queue_deadline_at=None,
            started_at=func.now(),
            running_at=None,
            collecting_at=None,
        )
        .returning(*job.c)
    )
    row = tx.execute(statement).first()
    return None if row is None else from_row(row)


def move(
    tx: Connection,
    job_id: UUID,
    fence: int,
    sources: Collection[JobState],
    target: JobState,
    values: Mapping[str, Any],
    lease_owner: str | None = None,
) -> Job | None:
    """Change a job's state if it is in one of ``sources``, with this fence and, where given, this lease owner."""
    changes = {**values, "state": target}
    if not target.is_active:
        changes |= {"lease_owner": None, "lease_expires_at": None}
    statement = (
        update(job)
        .where(job.c.id == job_id, job.c.fence == fence, job.c.state.in_(sources), _is_held_by(lease_owner))
        .values(changes)
        .returning(*job.c)
    )
    row = tx.execute(statement).first()
    return None if row is None else from_row(row)


def _is_held_by(lease_owner: str | None) -> ColumnElement[bool]:
    return true() if lease_owner is None else job.c.lease_owner == lease_owner


def lock(tx: Connection, job_id: UUID, lease_owner: str | None = None) -> Job | None:
    """Get a job, if this owner holds its lease, and keep others from changing it until the transaction ends."""
    row = tx.execute(select(job).where(job.c.id == job_id, _is_held_by(lease_owner)).with_for_update()).first()
    return None if row is None else from_row(row)


def hold_fence(tx: Connection, job_id: UUID, fence: int, lease_owner: str | None = None) -> bool:
    """Tell whether an attempt is still the current one, of this lease owner, and keep it so in this transaction."""
    statement = (
        select(job.c.id)
        .where(job.c.id == job_id, job.c.fence == fence, job.c.state.in_(ACTIVE_STATES), _is_held_by(lease_owner))
        .with_for_update(read=True)
    )
    return tx.execute(statement).first() is not None


def get_retries_used(tx: Connection, job_id: UUID) -> int:
    """Count the attempts that a job has been given after failures of its own."""
    return int(tx.execute(select(job.c.retries_used).where(job.c.id == job_id)).scalar_one())


def request_cancel(tx: Connection, job_id: UUID) -> None:
    """Mark an active job as to be cancelled."""
    tx.execute(update(job).where(job.c.id == job_id).values(cancel_requested=True))


def set_message(tx: Connection, job_id: UUID, message: str) -> None:
    """Say in other words what a job waits for."""
    tx.execute(update(job).where(job.c.id == job_id).values(message=message))


def get_now(tx: Connection) -> datetime:
    """Get the time at which the transaction began, by PostgreSQL's clock, the only one that counts."""
    now: datetime = tx.execute(select(func.now())).scalar_one()
    return now


def notify(tx: Connection, channel: str, payload: str) -> None:
    """Send a NOTIFY when the transaction commits."""
    tx.execute(select(func.pg_notify(channel, payload)))
