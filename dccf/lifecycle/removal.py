"""Removing jobs that have ended, with all that belongs to them."""

from __future__ import annotations

from uuid import UUID

from dccf import errors
from dccf.administration import Kept
from dccf.store import jobs, outbox, retention
from dccf.store.database import Database


def remove(database: Database, job_id: UUID, *, owner: str | None = None) -> None:
    """Remove a job that has ended, its attempts, history, log and files; contents go with the next blob sweep.

    Raises:
        NotFound: there is no such job, or it is not ``owner``'s.
        Conflict: the job has not ended, or what follows it was not sent yet.
        StoreUnavailable: PostgreSQL is away.
    """
    with database.begin() as tx:
        job = jobs.lock(tx, job_id)
        if job is None or owner not in {None, job.owner}:
            raise errors.NotFound(f"there is no job {job_id}")
        if not job.state.is_final:
            raise errors.Conflict(
                f"job {job_id} is {job.state}; cancel it first, only jobs that have ended are removed"
            )
        if outbox.is_continuation_pending(tx, job_id):
            raise errors.Conflict(f"what follows job {job_id} in its canvas was not sent yet; try again in a minute")
        retention.remove(tx, Kept.JOBS, [job_id])
