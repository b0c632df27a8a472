"""The build context: what of it is sent to the daemon, as a tar stream that is never kept whole."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterable, Iterator, Sequence

from dccf.errors import AttemptFailed, AttemptStopped
from dccf.models import Reason
from dccf.runner.base import ContextFile, StopSignal

DOCKERFILE = "Dockerfile"
IGNORE_FILE = ".dockerignore"
#: Longest .dockerignore that is read.
IGNORE_FILE_BYTES = 1 << 20

_BLOCK = tarfile.BLOCKSIZE
#: Permission bits; a set-id bit has no business in an upload.
_PERMISSIONS = 0o777


def read_whole(file: ContextFile, limit_bytes: int) -> bytes:
    """Read a small file of the context.

    Raises:
        AttemptFailed: ``rejected``: it is larger than allowed.
    """
    if file.size > limit_bytes:
        raise AttemptFailed(
            Reason.REJECTED, f"{file.path} has {file.size} bytes; {limit_bytes} are allowed. Shorten it."
        )
    return b"".join(file.chunks)


def tar_stream(
    texts: Iterable[tuple[str, bytes]],
    files: Iterable[ContextFile],
    stop: StopSignal,
    owner_id: int = 0,
) -> Iterator[bytes]:
    """Pack texts and files as a tar archive, piece by piece; all belong to the user and group of one id.

    Raises:
        AttemptStopped: ``stop`` said so.
    """
    for path, data in texts:
        yield _header(path, len(data), 0o644, owner_id)
        yield data
        yield _padding(len(data))
    for file in files:
        yield _header(file.path, file.size, file.mode, owner_id)
        for chunk in file.chunks:
            cause = stop.cause()
            if cause is not None:
                raise AttemptStopped(cause)
            if chunk:
                yield chunk
        yield _padding(file.size)
    yield bytes(2 * _BLOCK)


def _header(path: str, size: int, mode: int, owner_id: int) -> bytes:
    member = tarfile.TarInfo(path)
    # Its time is the fixed one of 1970: the same files make the same layers.
    member.size, member.mode = size, mode & _PERMISSIONS
    member.uid = member.gid = owner_id
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _padding(size: int) -> bytes:
    return bytes(-size % _BLOCK)


class IgnoreRules:
    """The patterns of a ``.dockerignore`` (docs.docker.com/build/concepts/context): the last that matches wins."""

    def __init__(self, text: str) -> None:
        self._rules: list[tuple[bool, re.Pattern[str]]] = []
        for line in text.removeprefix("\ufeff").splitlines():
            pattern = "" if line.startswith("#") else line.strip()
            keeps = pattern.startswith("!")
            segments = [part for part in pattern.removeprefix("!").strip().split("/") if part not in {"", "."}]
            if segments:
                self._rules.append((keeps, re.compile(_regex(segments))))

    def ignores(self, path: str) -> bool:
        """Whether a file is left out; the Dockerfile itself never is."""
        if path == DOCKERFILE:
            return False
        ignored = False
        for keeps, pattern in self._rules:
            if ignored == keeps and pattern.fullmatch(path):
                ignored = not keeps
        return ignored


def _regex(segments: Sequence[str]) -> str:
    """Translate a pattern; what lies below a folder that matches matches too."""
    parts = []
    for segment in segments:
        if segment == "**":
            parts.append("(?:[^/]+/)*")
        else:
            parts.append(_segment_regex(segment) + "/")
    joined = "".join(parts)
    if segments[-1] == "**":
        return joined + "[^/]+(?:/.*)?"
    return joined.removesuffix("/") + "(?:/.*)?"


def _segment_regex(segment: str) -> str:
    regex, at = "", 0
    while at < len(segment):
        character = segment[at]
        at += 1
        if character == "*":
            regex += "[^/]*"
        elif character == "?":
            regex += "[^/]"
        elif character == "\\" and at < len(segment):
            regex += re.escape(segment[at])
            at += 1
        elif character == "[" and (end := segment.find("]", at + 1)) > 0:
            inner = segment[at:end]
            negation = "^" if inner.startswith("^") else ""
            inner = inner.removeprefix("^").replace("[", "\\[").replace("&", "\\&").replace("~", "\\~")
            regex += f"[{negation}{inner}]"
            at = end + 1
        else:
            regex += re.escape(character)
    return regex
