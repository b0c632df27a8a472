"""An attempt's way: claim, advance, finish; every write carries its fence."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection

from dccf import errors
from dccf.config import Settings
from dccf.lifecycle import channels, hints, transitions, waiting
from dccf.lifecycle.endings import Ending, settle
from dccf.models import Job, JobState, StopCause
from dccf.store import history, jobs, server
from dccf.store.database import Database

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Lease:
    """What an attempt holds: the job, its fence, and in whose name.

    ``lease_owner`` is the life of the worker: a later one may go on with the attempt, and what an earlier one still
    writes under the same fence is refused from then on.
    """

    job_id: UUID
    fence: int
    worker: str
    lease_owner: str


@dataclass(frozen=True)
class Holder:
    """A worker's name, and the one life of it that holds leases."""

    worker: str
    lease_owner: str

    def lease_for(self, job: Job) -> Lease:
        """Give the lease of a job's current attempt, which this holder has."""
        return Lease(job.id, job.fence, self.worker, self.lease_owner)


def claim(database: Database, settings: Settings, job_id: UUID, holder: Holder) -> tuple[Lease, Job] | None:
    """Take a queued job that may start now, under a lease; ``None`` when it is not to be had.

    Raises:
        StoreUnavailable: PostgreSQL is away.
    """
    return Claim(database, settings, job_id, holder).take()


@dataclass
class Claim:
    """A claim that may be tried again: whether a commit went through whose answer was lost is asked, not guessed.

    Else the job would stand still under this worker's lease until the worker notices that nobody runs it.
    """

    database: Database
    settings: Settings
    job_id: UUID
    holder: Holder
    #: The transaction whose commit was not answered, and what it took.
    _doubt: tuple[str, Lease] | None = None

    def take(self) -> tuple[Lease, Job] | None:
        """Take the job, or find that the last try did; see :func:`claim`.

        Raises:
            StoreUnavailable: PostgreSQL is away; try again.
        """
        found = self._find_out()
        if found is not None:
            return found
        with self.database.begin() as tx:
            job = self._take(tx)
            if job is not None:
                self._doubt = (server.get_transaction(tx), self.holder.lease_for(job))
        self._doubt = None
        return None if job is None else (self.holder.lease_for(job), job)

    def _find_out(self) -> tuple[Lease, Job] | None:
        if self._doubt is None:
            return None
        transaction, lease = self._doubt
        with self.database.begin() as tx:
            is_ours = server.was_committed(tx, transaction) and jobs.hold_fence(
                tx, lease.job_id, lease.fence, lease.lease_owner
            )
            job = jobs.get(tx, lease.job_id) if is_ours else None
        self._doubt = None
        return None if job is None else (lease, job)

    def _take(self, tx: Connection) -> Job | None:
        queued = jobs.get(tx, self.job_id)
        if queued is None or queued.state is not JobState.QUEUED:
            return None
        if queued.spec.model_extra:
            unknown = ", ".join(sorted(queued.spec.model_extra))
            log.warning("job %s is left to a newer worker: this version does not know %s", self.job_id, unknown)
            hints.postpone(tx, self.job_id)
            return None
        why = waiting.why_not_now(tx, self.settings, queued.spec.queue, queued.owner)
        if why is not None:
            hints.hold(tx, self.job_id, why)
            return None
        worker = self.holder.worker
        message = f"worker {worker} builds the image"
        job = jobs.claim(tx, self.job_id, self.holder.lease_owner, worker, self.settings.lease_seconds, message)
        if job is None:
            return None
        history.open_attempt(tx, job.id, job.fence, worker)
        history.add_event(tx, job.id, job.state, job.fence, f"attempt {job.fence} started on worker {worker}")
        jobs.notify(tx, channels.JOB_CHANGED, str(job.id))
        jobs.notify(tx, channels.WORK_TO_DO, "")
        return job


def advance(database: Database, lease: Lease, target: JobState, message: str) -> None:
    """Move the attempt's job to its next active state.

    Raises:
        FencePassed: this attempt is no longer the current one.
        AttemptStopped: with cause ``cancel``: somebody wants the job cancelled.
        StoreUnavailable: PostgreSQL is away.
    """
    column = {JobState.RUNNING: "running_at", JobState.COLLECTING: "collecting_at"}[target]
    with database.begin() as tx:
        now = jobs.get_now(tx)
        sources = transitions.sources_of(target)
        values = {"message": message, column: now}
        job = jobs.move(tx, lease.job_id, lease.fence, sources, target, values, lease.lease_owner)
        if job is None:
            job = _already_there(tx, lease, target)
        else:
            history.change_attempt(tx, job.id, job.fence, **{column: now})
            history.add_event(tx, job.id, target, job.fence, message)
            jobs.notify(tx, channels.JOB_CHANGED, str(job.id))
    if job.cancel_requested:
        raise errors.AttemptStopped(StopCause.CANCEL)


def _already_there(tx: Connection, lease: Lease, target: JobState) -> Job:
    """Accept a move that is repeated because its first answer was lost."""
    require_fence(tx, lease)
    job = jobs.get(tx, lease.job_id)
    if job is None or job.state is not target:
        raise errors.FencePassed(f"attempt {lease.fence} of job {lease.job_id} is no longer the current one")
    return job


def require_fence(tx: Connection, lease: Lease) -> None:
    """Make sure that an attempt is still the current one and this life's, and keep it so until the transaction ends.

    Raises:
        FencePassed: it is not.
    """
    if not jobs.hold_fence(tx, lease.job_id, lease.fence, lease.lease_owner):
        raise errors.FencePassed(f"attempt {lease.fence} of job {lease.job_id} is no longer the current one")


def finish(database: Database, settings: Settings, lease: Lease, ending: Ending) -> Job:
    """End an attempt: its job is final now, or queued for another attempt.

    Raises:
        FencePassed: this attempt is no longer the current one; nothing was written.
        StoreUnavailable: PostgreSQL is away.
    """
    with database.begin() as tx:
        job = jobs.lock(tx, lease.job_id, lease.lease_owner)
        if job is None or job.fence != lease.fence or not job.state.is_active:
            raise errors.FencePassed(f"attempt {lease.fence} of job {lease.job_id} is no longer the current one")
        return settle(tx, settings, job, ending)
