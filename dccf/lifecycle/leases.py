"""Leases: extended by workers, taken by the controller when they run out."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from dccf.config import Settings
from dccf.lifecycle.attempts import Holder, Lease
from dccf.lifecycle.endings import Ending, end, settle, took_too_long
from dccf.models import ACTIVE_STATES, Job, JobState, Reason
from dccf.store import held, overdue
from dccf.store.database import Database

#: Jobs that one sweep takes in one transaction.
BATCH = 50
#: States in which there may be a container to go on with. A build dies with whoever asked for it.
ADOPTABLE_STATES = frozenset({JobState.RUNNING, JobState.COLLECTING})


def extend(
    database: Database, holder: Holder, job_ids: Collection[UUID], lease_seconds: float
) -> set[tuple[UUID, int]]:
    """Push out the leases of a worker's jobs; give the attempts, as job and fence, that it still holds.

    Raises:
        StoreUnavailable: PostgreSQL is away; the leases stand until they run out.
    """
    with database.begin() as tx:
        return held.extend(tx, holder.lease_owner, job_ids, lease_seconds)


def find_held(database: Database, holder: Holder) -> set[tuple[UUID, int]]:
    """List the attempts, as job and fence, that a worker holds a lease for.

    Raises:
        StoreUnavailable: PostgreSQL is away.
    """
    with database.begin() as tx:
        return held.find_held(tx, holder.lease_owner)


def expire(database: Database, settings: Settings) -> list[Job]:
    """Take the jobs of workers that have gone silent: queued again, failed at the cap, or cancelled.

    Raises:
        StoreUnavailable: PostgreSQL is away.
    """
    with database.begin() as tx:
        return [settle(tx, settings, job, _lost(job)) for job in held.lock_expired(tx, BATCH)]


def release_earlier(
    database: Database, settings: Settings, holder: Holder, states: Collection[JobState] = ACTIVE_STATES
) -> list[Job]:
    """Take the jobs that earlier lives of a worker still hold, without waiting for their leases.

    Only the worker itself may call this, once it is sure that its earlier life is dead.

    Raises:
        StoreUnavailable: PostgreSQL is away.
    """
    with database.begin() as tx:
        earlier = held.lock_leased_by_earlier(tx, holder.worker, holder.lease_owner, states)
        return [settle(tx, settings, job, _lost(job)) for job in earlier]


def adopt_earlier(database: Database, holder: Holder, lease_seconds: float) -> list[tuple[Lease, Job]]:
    """Take over the attempts of earlier lives of a worker whose containers may be there, under the same fences.

    From then on nothing that an earlier life writes counts. What a controller took first, because its lease had run
    out, is not among them: both change the same row. Who may call it: see :func:`release_earlier`.

    Raises:
        StoreUnavailable: PostgreSQL is away.
    """
    with database.begin() as tx:
        taken = held.take_over(tx, holder.worker, holder.lease_owner, ADOPTABLE_STATES, lease_seconds)
        return [(holder.lease_for(job), job) for job in taken]


def find_overdue(database: Database, holder: Holder) -> set[UUID]:
    """List the jobs of one worker whose time limit as a whole is over.

    Raises:
        StoreUnavailable: PostgreSQL is away.
    """
    with database.begin() as tx:
        return overdue.find_overdue(tx, holder.lease_owner)


def fail_overdue(database: Database) -> list[Job]:
    """Fail the waiting jobs whose time limit, for the queue or as a whole, is over.

    Raises:
        StoreUnavailable: PostgreSQL is away.
    """
    with database.begin() as tx:
        ended = [end(tx, job, took_too_long(job)) for job in overdue.lock_job_timed_out(tx, BATCH)]
        return ended + [end(tx, job, _waited_too_long(job)) for job in overdue.lock_queue_timed_out(tx, BATCH)]


def extend_all(database: Database, lease_seconds: float) -> int:
    """Give every lease its full length again, after an outage in which no worker could renew.

    Raises:
        StoreUnavailable: PostgreSQL is away again.
    """
    with database.begin() as tx:
        return held.extend_all(tx, lease_seconds)


def _lost(job: Job) -> Ending:
    message = f"worker {job.worker} stopped renewing its lease while the job was {job.state}"
    return Ending(JobState.FAILED, message, Reason.WORKER_LOST)


def _waited_too_long(job: Job) -> Ending:
    limit = job.spec.queue_timeout_seconds
    message = f"no worker of queue {job.spec.queue} took the job within {limit:g} s (queue_timeout_seconds)"
    return Ending(JobState.FAILED, message, Reason.QUEUE_TIMED_OUT)
