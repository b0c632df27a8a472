"""Cancelling: at once before the start, by request to the worker after it."""

from __future__ import annotations

from uuid import UUID

from dccf import errors
from dccf.lifecycle import channels
from dccf.lifecycle.attempts import Holder
from dccf.lifecycle.endings import Ending, end
from dccf.models import Job, JobState
from dccf.store import held, history, jobs
from dccf.store.database import Database


def cancel(database: Database, job_id: UUID, who: str, *, owner: str | None = None, running: bool = True) -> Job:
    """Cancel a job; again is no harm. ``running=False`` leaves a job alone that has started.

    A queued job is ``cancelled`` when this returns. An active one is told to stop: its worker kills
    the container within a second and the job is ``cancelled`` then.

    Raises:
        NotFound: there is no such job, or it is not ``owner``'s.
        Conflict: the job has already ended.
        StoreUnavailable: PostgreSQL is away.
    """
    with database.begin() as tx:
        job = jobs.lock(tx, job_id)
        if job is None or owner not in {None, job.owner}:
            raise errors.NotFound(f"there is no job {job_id}")
        if job.state is JobState.CANCELLED:
            return job
        if job.state.is_final:
            raise errors.Conflict(f"job {job_id} has already {job.state}; there is nothing left to cancel")
        if job.state is JobState.QUEUED:
            return end(tx, job, Ending(JobState.CANCELLED, f"cancelled by {who} before it started"))
        if running and not job.cancel_requested:
            jobs.request_cancel(tx, job_id)
            history.add_event(tx, job_id, job.state, job.fence, f"cancel requested by {who}")
            jobs.notify(tx, channels.CANCEL_REQUESTED, str(job_id))
            jobs.notify(tx, channels.JOB_CHANGED, str(job_id))
            job = job.model_copy(update={"cancel_requested": True})
        return job


def find_requests(database: Database, holder: Holder) -> set[UUID]:
    """List the jobs of one worker that somebody wants cancelled.

    Raises:
        StoreUnavailable: PostgreSQL is away.
    """
    with database.begin() as tx:
        return held.find_cancel_requests(tx, holder.lease_owner)
