"""How attempts end, and what becomes of their jobs: done, or another attempt, and when."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection

from dccf import errors
from dccf.config import Settings
from dccf.lifecycle import channels, transitions
from dccf.models import Job, JobState, Reason
from dccf.store import artifacts, history, jobs, outbox

#: A worker gets this long to send what follows a finished job before the controller sends its message again.
CONTINUATION_GRACE_SECONDS = 30


#: What another attempt would only find again.
_NEVER_RETRIED = frozenset({Reason.JOB_TIMED_OUT, Reason.REJECTED})


@dataclass(frozen=True)
class Ending:
    """How an attempt ended.

    ``state`` is ``succeeded``, ``failed`` (with ``reason``), ``cancelled``, or ``queued`` for an attempt
    that was handed back unfinished, which counts against nothing.
    """

    state: JobState
    message: str
    reason: Reason | None = None
    exit_code: int | None = None

    @property
    def outcome(self) -> str:
        """The word for it in the attempt's record."""
        return "handed_back" if self.state is JobState.QUEUED else self.state.value


def took_too_long(job: Job) -> Ending:
    """End a job whose time limit as a whole is over."""
    limit = job.spec.job_timeout_seconds
    attempts = f"{job.fence} attempt{'' if job.fence == 1 else 's'}"
    message = f"the job as a whole took longer than {limit:g} s (job_timeout_seconds), with {attempts}"
    return Ending(JobState.FAILED, message, Reason.JOB_TIMED_OUT)


def settle(tx: Connection, settings: Settings, job: Job, ending: Ending) -> Job:
    """End the current attempt of a job that the caller has locked and that is active.

    A cancel that was accepted stands, whatever the container did meanwhile.
    """
    if job.cancel_requested:
        ending = Ending(JobState.CANCELLED, "cancelled on request", exit_code=ending.exit_code)
    history.close_attempt(
        tx,
        job.id,
        job.fence,
        ending.outcome,
        reason=ending.reason,
        message=ending.message,
        exit_code=ending.exit_code,
    )
    if ending.state is JobState.QUEUED:
        return _queue_again(tx, job, ending.message, 0, {})
    if ending.state is JobState.FAILED:
        retried = _try_again(tx, settings, job, ending)
        if retried is not None:
            return retried
    return end(tx, job, ending)


def end(tx: Connection, job: Job, ending: Ending) -> Job:
    """Bring a job that the caller has locked to its end."""
    now = jobs.get_now(tx)
    failures = job.failures + (ending.state is JobState.FAILED)
    values: dict[str, Any] = {
        "message": ending.message,
        "reason": ending.reason,
        "exit_code": ending.exit_code,
        "failures": failures,
        "finished_at": now,
        "hint_after": outbox.when_continuation_is_overdue(CONTINUATION_GRACE_SECONDS),
        "hints": 0,
    }
    return _move(tx, job, ending.state, values, _sentence(ending))


def _try_again(tx: Connection, settings: Settings, job: Job, ending: Ending) -> Job | None:
    """Queue a failed job again where its fault and its limits allow it."""
    if ending.reason is None:
        raise ValueError("a failed ending needs a reason")
    counted: dict[str, Any] = {"failures": job.failures + 1}
    if ending.reason.is_platform_fault:
        if job.failures + 1 >= job.max_attempts:
            return None
    else:
        retries_used = jobs.get_retries_used(tx, job.id)
        if retries_used >= job.spec.retries or not _is_retried(job, ending):
            return None
        counted = {"retries_used": retries_used + 1}
    wait = _backoff_seconds(settings, job.fence)
    if ending.reason is Reason.WORKER_LOST:
        what = f"attempt {job.fence} lost its worker at {jobs.get_now(tx):%H:%M:%S} UTC: {ending.message}"
    else:
        what = f"attempt {job.fence} failed ({_sentence(ending)})"
    sentence = f"{what}; attempt {job.fence + 1} starts in {wait:.0f} s"
    return _queue_again(tx, job, sentence, wait, counted)


def _is_retried(job: Job, ending: Ending) -> bool:
    """Tell whether the job's retries are meant for such a failure."""
    if ending.reason in _NEVER_RETRIED:
        return False
    codes = job.spec.retry_exit_codes
    return not codes or (ending.reason is Reason.EXIT_NONZERO and ending.exit_code in codes)


def _queue_again(tx: Connection, job: Job, message: str, wait_seconds: float, counted: dict[str, Any]) -> Job:
    # Nobody could fetch them once the next attempt has begun, and until then they would look like the job's result.
    artifacts.remove(tx, job.id, job.fence)
    due = jobs.get_now(tx) + timedelta(seconds=wait_seconds)
    values = {
        "message": message,
        "run_after": due,
        "hint_after": due,
        "hints": 0,
        "waiting_for": 0,
        "worker": None,
        **counted,
    }
    return _move(tx, job, JobState.QUEUED, values, message)


def _move(tx: Connection, job: Job, target: JobState, values: dict[str, Any], sentence: str) -> Job:
    moved = jobs.move(tx, job.id, job.fence, transitions.sources_of(target), target, values)
    if moved is None:
        raise errors.Conflict(f"job {job.id} is {job.state} and cannot become {target}")
    history.add_event(tx, job.id, target, job.fence, sentence)
    jobs.notify(tx, channels.JOB_CHANGED, str(job.id))
    jobs.notify(tx, channels.WORK_TO_DO, "")
    return moved


def _sentence(ending: Ending) -> str:
    return f"{ending.reason}: {ending.message}" if ending.reason else ending.message


def _backoff_seconds(settings: Settings, attempt: int) -> float:
    """Wait longer after each attempt, and not all jobs of one lost worker at the same instant."""
    base = settings.retry_backoff_seconds * 2.0 ** min(attempt - 1, 20)
    return min(base, settings.retry_backoff_max_seconds) * random.uniform(0.5, 1)  # noqa: S311 - spread, not secrecy
