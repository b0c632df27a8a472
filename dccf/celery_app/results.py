"""What ``AsyncResult.get()`` gives for a job, and what it raises."""

from __future__ import annotations

from typing import Any

from dccf import errors
from dccf.models import Job, Reason, Stream
from dccf.store import artifacts, logs
from dccf.store.database import Database

#: A result travels in the messages of what follows; a job with more files says so and is listed over REST.
MAX_LISTED_ARTIFACTS = 1000
LOG_TAIL_BYTES = 4096
_BUILD_REASONS = frozenset({Reason.BUILD_FAILED, Reason.BUILD_TIMED_OUT, Reason.REJECTED, Reason.IMAGE_NOT_FOUND})


def of_succeeded(database: Database, job: Job) -> dict[str, Any]:
    """Give the result of a job that succeeded."""
    with database.begin() as tx:
        files = artifacts.describe(tx, job.id)
    return {
        "job_id": str(job.id),
        "state": job.state.value,
        "exit_code": job.exit_code,
        "artifacts": [file.model_dump() for file in files[:MAX_LISTED_ARTIFACTS]],
        "artifact_count": len(files),
    }


def of_failed(database: Database, job: Job) -> errors.JobFailed:
    """Give the error of a job that failed, with the last lines of the log that matters."""
    is_build = job.reason in _BUILD_REASONS
    streams = (Stream.BUILD_STDOUT, Stream.BUILD_STDERR) if is_build else (Stream.STDOUT, Stream.STDERR)
    with database.begin() as tx:
        tail = logs.get_tail(tx, job.id, job.fence, streams, LOG_TAIL_BYTES)
    text = tail.decode("utf-8", "replace")
    return errors.JobFailed(str(job.id), str(job.reason), job.message, job.exit_code, text)
