"""Celery's eager mode: one attempt in the caller's process, without PostgreSQL, broker or worker."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import uuid4

from dccf import errors
from dccf.celery_app.options import DEFAULT_OWNER
from dccf.config import Settings
from dccf.lifecycle.ids import new_job_id
from dccf.lifecycle.intake import check_path
from dccf.models import JobSpec, Stream
from dccf.runner.base import AttemptRef, ContextFile
from dccf.worker.context import make_runner

_LOG_TAIL_BYTES = 4096


class _Log:
    """Keeps the end of everything that is printed."""

    def __init__(self) -> None:
        self.tail = b""

    def write(self, stream: Stream, data: bytes) -> None:  # noqa: ARG002 - all streams end in one tail
        self.tail = (self.tail + data)[-_LOG_TAIL_BYTES:]


class _NeverStop:
    def cause(self) -> None:
        return None


def run(call: Mapping[str, Any], app: Any) -> dict[str, Any]:
    """Run a job here and now; the fake runner unless ``DCCF_EAGER_RUNNER`` says ``docker``.

    Parents' artefacts are not kept anywhere in eager mode, so ``inputs/`` stays empty.

    Raises:
        JobFailed: the attempt failed.
        InvalidRequest: an option or a file name is not allowed.
    """
    settings: Settings = app.settings
    options = dict(call)
    files: dict[str, bytes] = options.pop("files", {})
    options.pop("idempotency_key", None)
    owner = str(options.pop("owner", DEFAULT_OWNER))
    spec = JobSpec.model_validate(options)
    runner = make_runner(settings, settings.eager_runner)
    job_id = new_job_id()
    attempt = AttemptRef(job_id, os.getpid(), f"eager-{uuid4().hex[:8]}")
    log = _Log()
    try:
        image = runner.build(attempt, spec, _context(files), log, _NeverStop())
        ended = runner.run(attempt, spec, image, log, _NeverStop(), owner)
        artifacts = [
            {"path": file.path, "size": sum(len(piece) for piece in file.chunks), "mode": file.mode}
            for file in runner.collect(attempt, spec)
        ]
    except errors.AttemptFailed as failure:
        raise errors.JobFailed(
            str(job_id), failure.reason, failure.message, None, log.tail.decode("utf-8", "replace")
        ) from failure
    finally:
        runner.remove(attempt)
    if ended.reason is not None:
        tail = log.tail.decode("utf-8", "replace")
        raise errors.JobFailed(str(job_id), ended.reason, ended.message, ended.exit_code, tail)
    return {
        "job_id": str(job_id),
        "state": "succeeded",
        "exit_code": ended.exit_code,
        "artifacts": artifacts,
        "artifact_count": len(artifacts),
    }


def _context(files: Mapping[str, bytes | str]) -> Iterator[ContextFile]:
    for path, content in files.items():
        data = content.encode() if isinstance(content, str) else content
        yield ContextFile(check_path(path), len(data), 0o644, [data])
