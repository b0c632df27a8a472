"""Taking in what people upload: names are checked, contents stored, and together they become a bundle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from pydantic import ValidationError
from sqlalchemy import Connection

from dccf import allowances, errors, fields
from dccf.config import Settings
from dccf.models import JobSpec
from dccf.store import bundles
from dccf.store.blobs import BlobWriter
from dccf.store.bundles import NewFile
from dccf.store.database import Database

DOCKERFILE = "Dockerfile"
MAX_SEGMENT_BYTES = 255
MAX_PATH_BYTES = 1024
_PERMISSIONS = 0o777


def check_path(path: str) -> str:
    """Check the name of an uploaded file, and give it in its plain form (``a/b``, not ``./a//b``).

    Raises:
        InvalidRequest: the name could leave the bundle, or no file system would take it.
    """
    problem = _path_problem(path)
    if problem:
        raise errors.InvalidRequest(f"the file name {path[:100]!r} is not allowed: {problem}")
    return "/".join(segment for segment in path.split("/") if segment not in {"", "."})


def _path_problem(path: str) -> str | None:
    segments = [segment for segment in path.split("/") if segment not in {"", "."}]
    checks = (
        ("\0" in path, "it contains a NUL character"),
        ("\\" in path, "it contains a backslash; write / between folders"),
        (path.startswith("/"), "it is absolute; names are relative to the Dockerfile"),
        (".." in segments, "it contains '..' and could leave the bundle"),
        (not segments, "it is empty"),
        (len(path.encode("utf-8", "surrogatepass")) > MAX_PATH_BYTES, f"it is longer than {MAX_PATH_BYTES} bytes"),
        (
            any(len(segment.encode("utf-8", "surrogatepass")) > MAX_SEGMENT_BYTES for segment in segments),
            f"a part of it is longer than {MAX_SEGMENT_BYTES} bytes",
        ),
        (any("\ud800" <= character <= "\udfff" for character in path), "it is not valid UTF-8"),
    )
    return next((problem for is_wrong, problem in checks if is_wrong), None)


def parse_spec(values: Mapping[str, Any], settings: Settings) -> JobSpec:
    """Check a job's options.

    Raises:
        InvalidRequest: with a JSON pointer to each option that is unknown or out of bounds.
    """
    try:
        spec = JobSpec.model_validate(dict(values))
    except ValidationError as error:
        found = fields.find_problems(error, JobSpec)
        raise errors.InvalidRequest(f"the job's options are not valid: {fields.in_words(found)}", found) from error
    refused = allowances.refusals(spec, settings)
    if refused:
        raise errors.InvalidRequest(f"the job's options are not allowed here: {fields.in_words(refused)}", refused)
    return spec


class Intake:
    """Receives the files of one bundle, one after the other, in constant memory.

    For each file call :meth:`begin`, then :meth:`write` any number of times, then :meth:`end`; then
    once :meth:`make_bundle`. What a broken upload leaves behind is removed by the blob sweep.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self._settings = settings
        self._writer = BlobWriter(database)
        self._entries: dict[str, int] = {}
        self._current = ""
        self._current_size = 0
        self._digests: list[tuple[str, str, int]] = []

    def begin(self, path: str, mode: int = 0o644) -> None:
        """Begin a file.

        Raises:
            InvalidRequest: the name is not allowed or came before, or there are too many files.
        """
        name = check_path(path)
        if name in self._entries:
            raise errors.InvalidRequest(f"two files have the name {name!r}; every name may come once")
        if len(self._entries) >= self._settings.max_bundle_files:
            raise errors.InvalidRequest(
                f"more than {self._settings.max_bundle_files} files; send fewer or an archive"
            )
        self._entries[name] = mode & _PERMISSIONS
        self._current, self._current_size = name, 0

    def write(self, data: bytes) -> None:
        """Take the next piece of the current file.

        Raises:
            InvalidRequest: the Dockerfile is too large.
            StoreUnavailable: PostgreSQL is away.
        """
        self._current_size += len(data)
        if self._current == DOCKERFILE and self._current_size > self._settings.max_dockerfile_bytes:
            raise errors.InvalidRequest(
                f"the Dockerfile is larger than {self._settings.max_dockerfile_bytes} bytes; "
                "put data into files beside it"
            )
        self._writer.write(data)

    def end(self) -> None:
        """End the current file."""
        digest, size = self._writer.finish()
        self._digests.append((self._current, digest.hex(), size))

    def add(self, path: str, content: bytes | Iterable[bytes], mode: int = 0o644) -> None:
        """Take a whole file."""
        self.begin(path, mode)
        for piece in [content] if isinstance(content, bytes) else content:
            self.write(piece)
        self.end()

    def finish(self) -> None:
        """Write what is left.

        Raises:
            InvalidRequest: there is no Dockerfile, or it is empty.
            StoreUnavailable: PostgreSQL is away.
        """
        sizes = {name: size for name, _, size in self._digests}
        if DOCKERFILE not in sizes:
            raise errors.InvalidRequest("there is no Dockerfile; send one named 'Dockerfile' at the top of the files")
        if not sizes[DOCKERFILE]:
            raise errors.InvalidRequest("the Dockerfile is empty; it needs at least a FROM instruction")
        self._check_folders()
        self._writer.flush()

    def make_bundle(self, tx: Connection, owner: str, spec: dict[str, Any] | None = None) -> UUID:
        """Make a bundle of the files, after :meth:`finish`; give its id."""
        files = [
            NewFile(name, mode, stored)
            for (name, mode), stored in zip(self._entries.items(), self._writer.stored, strict=True)
        ]
        return bundles.add(tx, owner, files, spec)

    def request_hash(self, spec: JobSpec) -> bytes:
        """Give a hash that is equal for equal files and options, for idempotency keys."""
        parts = [sorted(self._digests), spec.model_dump(mode="json", exclude={"run_after"}, exclude_defaults=True)]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).digest()

    def _check_folders(self) -> None:
        for name in self._entries:
            folder = name
            while "/" in folder:
                folder = folder.rpartition("/")[0]
                if folder in self._entries:
                    raise errors.InvalidRequest(f"{folder!r} is both a file and a folder (because of {name!r})")
