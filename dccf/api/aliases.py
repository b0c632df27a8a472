"""The four endpoints of the system that DCCF re-creates, with its shapes and ours behind them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from importlib import resources
from typing import Any
from uuid import UUID

from apiflask import APIBlueprint
from flask import Response, request

from dccf import errors
from dccf.api import queries
from dccf.api.answers import JSON
from dccf.api.context import Services, find_job, identity, services
from dccf.api.jobs import require_final
from dccf.api.submitting import read_key, submit_job
from dccf.api.uploads import Form, receive
from dccf.lifecycle.intake import Intake
from dccf.models import Job, JobSpec, JobState, Stream
from dccf.store import artifacts, blobs, logs
from dccf.store.bundles import FileRef

bp = APIBlueprint("aliases", __name__, tag="Aliases of the original")

FORM = Form("dockerFile", "taskFiles")
#: The answer holds everything at once, in base64; larger results are for /v1/jobs/<id>/artifacts.
MAX_RESULT_BYTES = 32 << 20

STATES = {
    JobState.QUEUED: "SUBMITTED",
    JobState.BUILDING: "PROCESSING",
    JobState.RUNNING: "PROCESSING",
    JobState.COLLECTING: "PROCESSING",
    JobState.SUCCEEDED: "COMPLETE",
    JobState.FAILED: "ERROR",
    JobState.CANCELLED: "ERROR",
}
LOG_NAMES = {
    Stream.BUILD_STDOUT: "buildStdout.txt",
    Stream.BUILD_STDERR: "buildStderr.txt",
    Stream.STDOUT: "runStdout.txt",
    Stream.STDERR: "runStderr.txt",
}
_DEMO_FILES = ("Dockerfile", "demo.sh")


def _json(value: Any) -> Response:
    return Response(json.dumps(value), content_type=JSON)


@bp.post("/submit")
def submit() -> Response:
    """Submit a job with default options; the answer is its id.

    The body is `multipart/form-data` with `dockerFile` (one) and `taskFiles` (any number).
    """
    key = read_key(request.headers.get("Idempotency-Key"))
    received = receive(services(), FORM)
    return _json(str(submit_job(services(), identity(), received.intake, JobSpec(), key).job.id))


@bp.post("/submitDemo")
def submit_demo() -> Response:
    """Submit the demonstration job; the answer is its id."""
    intake = Intake(services().database, services().settings)
    for name in _DEMO_FILES:
        intake.add(name, resources.files("dccf.api").joinpath("demo", name).read_bytes())
    intake.finish()
    return _json(str(submit_job(services(), identity(), intake, JobSpec(), None).job.id))


@bp.get("/getJobStatus")
def get_job_status() -> Response:
    """Get a job's state: `SUBMITTED`, `PROCESSING`, `COMPLETE` or `ERROR`."""
    return _json(STATES[find_job(queries.parse(queries.AliasQuery).jobId).state])


@bp.get("/getResultingFiles")
def get_resulting_files() -> Response:
    """Get the logs and the files of a job that has ended, in base64; up to 32 MiB in all."""
    job = find_job(queries.parse(queries.AliasQuery).jobId)
    require_final(job)
    with services().database.begin() as tx:
        size = logs.get_size(tx, job.id, job.fence)
        files = artifacts.get_files(tx, job.id)
    if size + sum(file.size for file in files) > MAX_RESULT_BYTES:
        raise _too_much(job.id)
    return Response(_entries(services(), job, files), content_type=JSON)


def _entries(shared: Services, job: Job, files: tuple[FileRef, ...]) -> Iterator[str]:
    """Yield the answer piece by piece: as a whole it would take several times its size in memory."""
    task = {"taskId": str(job.id), "workerIdentifier": job.worker, "status": STATES[job.state]}
    results: list[tuple[str, str, Iterator[bytes]]] = [
        *(("LOG", name, _log(shared, job, stream)) for stream, name in LOG_NAMES.items()),
        *(("RETURN", file.path, blobs.read(shared.database, file.blob_id)) for file in files),
    ]
    for number, (kind, name, pieces) in enumerate(results, 1):
        entry = json.dumps({"fileId": number, "taskEntity": task, "fileType": kind, "name": name})
        yield f'{"[" if number == 1 else ", "}{entry[:-1]}, "fileData": "'
        yield from _base64(pieces)
        yield '"}'
    yield "]"


def _base64(pieces: Iterator[bytes]) -> Iterator[str]:
    rest = b""
    for piece in pieces:
        data = rest + piece
        rest = data[len(data) - len(data) % 3 :]  # three bytes are four characters; fewer would need padding
        yield base64.b64encode(data[: len(data) - len(rest)]).decode()
    yield base64.b64encode(rest).decode()


def _log(shared: Services, job: Job, stream: Stream) -> Iterator[bytes]:
    after = -1
    while True:
        with shared.database.begin() as tx:
            chunks = logs.get(tx, job.id, job.fence, (stream,), after)
        if not chunks:
            return
        for chunk in chunks:
            after = chunk.seq
            yield chunk.data


def _too_much(job_id: UUID) -> errors.Conflict:
    return errors.Conflict(
        f"the logs and files of job {job_id} are larger than {MAX_RESULT_BYTES} bytes, too much for one answer in "
        f"base64; get them one by one from /v1/jobs/{job_id}/artifacts and /v1/jobs/{job_id}/logs"
    )
