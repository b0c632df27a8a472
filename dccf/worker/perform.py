"""The body of ``run_dockerfile`` in a worker: claim, execute, and answer Celery from the job's row."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from celery.exceptions import Ignore

from dccf import errors
from dccf.celery_app import results
from dccf.celery_app.task import JobTask
from dccf.lifecycle import attempts, hints
from dccf.lifecycle.ids import parse_job_id
from dccf.models import Job, JobState
from dccf.store import jobs, outbox
from dccf.worker import context, eager
from dccf.worker.context import WorkerContext
from dccf.worker.execute import Execution
from dccf.worker.persist import UntilOrphaned, persist

log = logging.getLogger(__name__)


def perform(task: JobTask, parents: Sequence[Any], call: Mapping[str, Any]) -> dict[str, Any]:
    """Do what a hint asks for: run its job if it is to be had, or send what follows it if it has ended.

    Raises:
        JobFailed: the job has failed.
        Ignore: this hint brings no result (another worker has the job, or it waits for its next attempt).
        InvalidRequest: the message came by name with arguments that make no job.
    """
    if task.request.is_eager:
        return eager.run(call, task.app)
    job_id = parse_job_id(task.request.id)
    worker = context.current()
    job = _attempt(task, worker, job_id, parents, call)
    if job is None:
        raise Ignore("the job is not to be had: another worker has it, or it may not start yet")
    return _answer(task, worker, job)


def _attempt(
    task: JobTask, worker: WorkerContext, job_id: UUID, parents: Sequence[Any], call: Mapping[str, Any]
) -> Job | None:
    """Claim and run the job; give it as it is after that, or ``None`` where others decide about it."""
    waiting = UntilOrphaned()
    try:
        worker.require_able()
    except errors.EngineUnavailable as error:
        why = f"worker {worker.settings.worker_name} cannot take the job: {error}"
        persist(lambda: hints.decline(worker.database, job_id, why), waiting)
        worker.counts.claimed("declined")
        return None
    # The hint is gone when this returns: with PostgreSQL away it is better to wait than to wait for another hint.
    claim = attempts.Claim(worker.database, worker.settings, job_id, worker.holder)
    claimed = persist(claim.take, waiting)
    worker.counts.claimed("taken" if claimed else "not_to_be_had")
    if claimed is None:
        return _without_claim(task, worker, job_id, parents, call)
    lease, job = claimed
    stop = worker.board.begin(worker.entry, lease.job_id, lease.fence)
    execution = Execution(worker.settings, worker.database, worker.runner, lease, job, stop, worker.counts)
    try:
        return execution.run()
    except errors.FencePassed as error:
        log.warning("job %s: %s", job_id, error)
        return _ended_by(worker, lease)
    finally:
        worker.board.clear(stop.running)


def _ended_by(worker: WorkerContext, lease: attempts.Lease) -> Job | None:
    """Give the job if this attempt did end it: a commit may go through although its answer is lost."""
    with worker.database.begin() as tx:
        job = jobs.get(tx, lease.job_id)
    return job if job is not None and job.state.is_final and job.fence == lease.fence else None


def _without_claim(
    task: JobTask, worker: WorkerContext, job_id: UUID, parents: Sequence[Any], call: Mapping[str, Any]
) -> Job | None:
    waiting = UntilOrphaned()
    job, pending = persist(lambda: _look(worker, job_id), waiting)
    if job is None:
        # Sent by name from an application that knows nothing of our rows: this hint is the submit.
        canvas = task.continuation_of_request()
        submitted = persist(lambda: task.submit(job_id, parents, call, canvas), waiting)
        if submitted.job.id != job_id:
            raise errors.Conflict(f"the idempotency key was used before: that job is {submitted.job.id}")
        return _attempt(task, worker, job_id, parents, call)
    return job if job.state.is_final and pending else None


def _look(worker: WorkerContext, job_id: UUID) -> tuple[Job | None, bool]:
    with worker.database.begin() as tx:
        return jobs.get(tx, job_id), outbox.is_continuation_pending(tx, job_id)


def _answer(task: JobTask, worker: WorkerContext, job: Job) -> dict[str, Any]:
    """Tell Celery what the row says; it then sends what follows."""
    if job.state is JobState.SUCCEEDED:
        return results.of_succeeded(worker.database, job)
    if job.state is JobState.FAILED:
        raise results.of_failed(worker.database, job)
    if job.state is JobState.CANCELLED:
        task.backend.mark_as_revoked(task.request.id, job.message, request=task.request, store_result=False)
        hints.finish_continuation(worker.database, job.id, job.state)
        task.send_event("task-revoked", terminated=True, signum=None, expired=False)
        raise Ignore(job.message)
    task.send_event("task-retried", exception=job.message, traceback="")
    raise Ignore(job.message)
