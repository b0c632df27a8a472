"""Bringing artefacts: streamed, checked, and never outside the folder."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from dccf import errors
from dccf.client.http import Http, mapped_errors
from dccf.models import Artifact

READ_BYTES = 256 << 10


def place(folder: Path, path: str) -> Path:
    """Say where an artefact goes.

    Raises:
        InvalidRequest: that would be outside the folder, also by way of a link in it.
    """
    relative = PurePosixPath(path)
    unsafe = relative.is_absolute() or not relative.parts or ".." in relative.parts or "\0" in path
    target = folder / relative
    if unsafe or not target.parent.resolve().is_relative_to(folder.resolve()):
        raise errors.InvalidRequest(f"the artefact {path!r} would leave the folder {str(folder)!r}")
    return target


def fetch_to(http: Http, job_path: str, artifact: Artifact, target: Path) -> None:
    """Bring one artefact; what stood in its place is replaced only when all of it is there.

    Raises:
        ApiUnavailable: the service went away, or what came is not what it should be.
        ConfigError: it cannot be written here.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".dccf-")
        part = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                for data in read(http, job_path, artifact):
                    file.write(data)
            part.chmod(artifact.mode)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise errors.ConfigError(f"{str(target)!r} cannot be written: {error.strerror}") from error


def read(http: Http, job_path: str, artifact: Artifact) -> Iterator[bytes]:
    """Yield an artefact's content.

    Raises:
        ApiUnavailable: the service went away, or (at the end) what came is not what it should be.
    """
    hasher = hashlib.sha256()
    path = f"{job_path}/artifacts/{quote(artifact.path)}"
    with http.open("GET", path) as response, mapped_errors(http.where.url):
        for data in response.iter_content(READ_BYTES):
            hasher.update(data)
            yield data
    if hasher.hexdigest() != artifact.sha256:
        raise errors.ApiUnavailable(f"the artefact {artifact.path!r} came in broken; get it again")
