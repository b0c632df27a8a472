"""Artefacts: listed, downloaded one by one with ranges, or all as a tar stream."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import quote
from uuid import UUID

from apiflask import APIBlueprint
from flask import Response, request
from werkzeug.wsgi import FileWrapper

from dccf import errors
from dccf.api.answers import answer_list
from dccf.api.context import Services, find_job, services
from dccf.models import Artifact
from dccf.store import artifacts, blobs
from dccf.store.bundles import FileRef
from dccf.store.database import Database

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

bp = APIBlueprint("artifacts", __name__, url_prefix="/v1/jobs", tag="Artefacts")

_READ_BYTES = 256 << 10


@bp.get("/<job_id>/artifacts")
def list_artifacts(job_id: str) -> Response:
    """List the files that a job left in /output."""
    job = find_job(job_id)
    with services().database.begin() as tx:
        return answer_list(artifacts.describe(tx, job.id))


@bp.get("/<job_id>/artifacts/<path:path>")
def download(job_id: str, path: str) -> Response:
    """Download one file.

    The ETag is its sha256; ranges and conditions (`Range`, `If-None-Match`, `If-Range`) are honoured.
    """
    job = find_job(job_id)
    with services().database.begin() as tx:
        found = artifacts.get_file(tx, job.id, path)
    if found is None:
        raise errors.NotFound(f"job {job.id} has no artefact {path!r}")
    return _file_response(services().database, *found)


def _file_response(database: Database, file: Artifact, blob_id: UUID) -> Response:
    content = io.BufferedReader(BlobFile(database, blob_id, file.size), _READ_BYTES)
    response = Response(
        FileWrapper(content, _READ_BYTES), content_type="application/octet-stream", direct_passthrough=True
    )
    response.content_length = file.size
    response.set_etag(file.sha256)
    _forbid_showing(response, file.path.rpartition("/")[2])
    response.make_conditional(request, accept_ranges=True, complete_length=file.size)
    return response


@bp.get("/<job_id>/artifacts.tar")
def download_all(job_id: str) -> Response:
    """Download all files as a tar archive, streamed."""
    job = find_job(job_id)
    with services().database.begin() as tx:
        files = artifacts.get_files(tx, job.id)
    ended = job.finished_at or job.created_at
    response = Response(_tar(services(), files, int(ended.timestamp())), content_type="application/x-tar")
    _forbid_showing(response, f"{job.id}.tar")
    return response


def _forbid_showing(response: Response, name: str) -> None:
    """Keep a browser from running what somebody's container wrote as a page of ours."""
    response.headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(name, safe='')}"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Content-Security-Policy"] = "sandbox; default-src 'none'"


def _tar(shared: Services, files: tuple[FileRef, ...], modified_at: int) -> Iterator[bytes]:
    for file in files:
        head = tarfile.TarInfo(file.path)
        head.size, head.mode, head.mtime = file.size, file.mode, modified_at
        yield head.tobuf(tarfile.PAX_FORMAT)
        yield from blobs.read(shared.database, file.blob_id)
        yield bytes(-file.size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


class BlobFile(io.RawIOBase):
    """A stored content as a file that can be sought, so that a range reads only its own chunks."""

    def __init__(self, database: Database, blob_id: UUID, size: int) -> None:
        super().__init__()
        self._database = database
        self._blob_id = blob_id
        self._size = size
        self._position = 0
        self._pieces: Iterator[bytes] | None = None
        self._rest = b""

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that it can be sought."""
        return True

    def tell(self) -> int:
        """Give the position."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move the position."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        self._pieces, self._rest = None, b""
        return self._position

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill a buffer, perhaps in part; 0 is the end."""
        if self._pieces is None:
            self._pieces = blobs.read(self._database, self._blob_id, self._position)
        if not self._rest:
            self._rest = next(self._pieces, b"")
        target = memoryview(buffer).cast("B")
        count = min(len(self._rest), len(target))
        target[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        self._position += count
        return count
