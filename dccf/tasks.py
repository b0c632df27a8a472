r"""``run_dockerfile``: a Celery task like any other, and a job like any other.

from dccf.tasks import run_dockerfile

result = run_dockerfile.delay(dockerfile="FROM busybox\nCMD date > /output/now", timeout_seconds=60)
result.id       # the job's id, in REST and Flower too
result.get()    # {'job_id': ..., 'state': 'succeeded', 'exit_code': 0, 'artifacts': [...], ...}
"""

from __future__ import annotations

from typing import Any

from dccf.celery_app import app
from dccf.celery_app.conf import TASK_NAME
from dccf.celery_app.task import JobTask
from dccf.errors import InvalidRequest, JobFailed, LimitReached


@app.task(bind=True, base=JobTask, name=TASK_NAME, throws=(JobFailed, InvalidRequest, LimitReached))
def run_dockerfile(self: JobTask, *parents: Any, **call: Any) -> dict[str, Any]:
    """Build a Dockerfile, run the image, keep what it wrote to ``/output/`` and what it printed.

    Keywords: ``dockerfile`` (text, bytes or Path), ``files`` (a mapping of path to bytes, text or
    Path, or a folder), every field of :class:`dccf.models.JobSpec` (``env``, ``timeout_seconds``,
    ``build_timeout_seconds``, ``queue_timeout_seconds``, ``job_timeout_seconds``, ``cpus``, ``memory``, ``pids``,
    ``tmp``, ``shm``, ``ulimits``, ``profile``, ``user``, ``runtime``, ``secrets``, ``network``, ``reuse_image``,
    ``labels``, ``queue``, ``retries``, ``retry_exit_codes``, ``run_after``), ``owner`` and ``idempotency_key``.
    The only positional argument is a parent's result (or a list of them) from a canvas; its artefacts stand in the
    build context under ``inputs/<job id>/``.

    Raises:
        JobFailed: from ``get()``: the job failed; carries reason, exit code and the log's tail.
        TaskRevokedError: from ``get()``: the job was cancelled.
        NotFound: from ``get()``: the job was removed after its end, and its result with it.
        LimitReached: from ``get()`` of a message sent by the task's name: its owner has as many jobs waiting as
            they may, so that it was not made a job.
    """
    # The worker's parts load Docker's SDK, which a process that only submits does not need.
    from dccf.worker import perform

    return perform.perform(self, parents, call)
