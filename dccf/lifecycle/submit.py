"""Submitting: one transaction makes the job; the row is also its outbox."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from dccf import errors
from dccf.config import Settings
from dccf.lifecycle import channels, owners, waiting
from dccf.models import Job, JobState
from dccf.store import history, jobs
from dccf.store.jobs import NewJob


@dataclass(frozen=True)
class Submitted:
    """A job, and whether this very call made it."""

    job: Job
    is_new: bool


def submit(tx: Connection, settings: Settings, new: NewJob) -> Submitted:
    """Make a queued job, or give the one that was made by the same request before.

    The same id again, or the same idempotency key of the same owner, is the same job: also when two
    calls come at once, since the second waits for the first one's commit.

    Raises:
        Conflict: the id is another owner's job.
        LimitReached: the owner has as many jobs waiting as they may.
        IdempotencyMismatch: the key was used with a different request.
    """
    if jobs.insert_new(tx, new, waiting.at_first(new.spec)):
        if not new.is_admitted:
            owners.check_queued(tx, settings, new.owner)
        history.add_event(tx, new.id, JobState.QUEUED, 0, f"submitted by {new.owner}")
        jobs.notify(tx, channels.JOB_CHANGED, str(new.id))
        jobs.notify(tx, channels.WORK_TO_DO, "")
        made = jobs.get(tx, new.id)
        if made is None:
            raise RuntimeError(f"job {new.id} is gone in the transaction that made it")
        return Submitted(made, is_new=True)
    return Submitted(_find_earlier(tx, new), is_new=False)


def _find_earlier(tx: Connection, new: NewJob) -> Job:
    if new.idempotency_key is not None:
        found = jobs.get_by_idempotency_key(tx, new.owner, new.idempotency_key)
        if found is not None:
            earlier, request_hash = found
            if request_hash != new.request_hash:
                raise errors.IdempotencyMismatch(
                    f"the idempotency key was used for job {earlier.id} with a different request; use a new key"
                )
            return earlier
    standing = jobs.get(tx, new.id)
    if standing is None or standing.owner != new.owner:
        raise errors.Conflict(f"the id {new.id} is taken; choose another one")
    return standing
