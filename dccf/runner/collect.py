"""Takes the regular files out of a container's ``/output``, trusting nothing that the container made.

The daemon sends the folder as a tar archive, which is read as a stream: no link is ever followed, no
pipe or device opened, and no file is read before its declared size was held against the limits.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from dccf.errors import AttemptFailed, EngineUnavailable
from dccf.models import Reason
from dccf.runner.base import OutputFile
from dccf.runner.engine import Engine
from dccf.runner.spec import OUTPUT
from dccf.runner.wire import READ_BYTES, Exchange

#: Longest silence of the daemon while it sends an archive.
SILENCE_SECONDS = 120.0
#: Folders, links and the like that are passed over for each file that may be left; more is a flood.
ENTRIES_PER_FILE = 5
#: What is read off the stream at most only to be thrown away, so that smaller files behind it are kept.
_SKIP_BYTES = 1 << 30
#: Deepest folder that is looked into; a container can nest thousands.
MAX_DEPTH = 128
#: Longest path that is kept; an index of the store takes no more than some 2.7 kB.
MAX_PATH_BYTES = 2048
_CHUNK_BYTES = 1 << 18
_PERMISSIONS = 0o777
_LOOKS_ESCAPED = re.compile("%(?=[0-9A-Fa-f]{2})")


@dataclass(frozen=True)
class OutputLimits:
    """What one attempt may leave in ``/output``, in bytes and files."""

    total_bytes: int
    file_bytes: int
    files: int


def collect(engine: Engine, container: str, limits: OutputLimits) -> Iterator[OutputFile]:
    """Yield the regular files of a container's ``/output`` within the limits.

    Raises:
        AttemptFailed: ``output_limit_exceeded``, after yielding what fits.
        EngineUnavailable: the daemon failed, or its archive broke off.
        Refused: there is no such container.
    """
    with engine.exchange(SILENCE_SECONDS) as exchange:
        exchange.request("GET", f"/containers/{container}/archive", {"path": OUTPUT})
        yield from files_of(io.BufferedReader(_Body(exchange), READ_BYTES), limits)


def files_of(archive: io.BufferedIOBase, limits: OutputLimits) -> Iterator[OutputFile]:
    """Yield the regular files of a tar archive whose top folder is ``/output``.

    Raises:
        AttemptFailed: ``output_limit_exceeded``, after yielding what fits.
        EngineUnavailable: the archive is broken.
    """
    left = Allowance(limits)
    try:
        with tarfile.open(fileobj=archive, mode="r|", errors="surrogateescape") as tar:
            for member in tar:
                # tarfile keeps all members it has seen, and a container can make millions.
                tar.members.clear()  # type: ignore[attr-defined]
                if not left.take_entry():
                    break
                path = _wanted_path(member, left)
                if left.is_spent:
                    break
                if not path:
                    continue
                stream = tar.extractfile(member)
                if stream is None:
                    continue
                chunks = _chunks(stream, member.size)
                yield OutputFile(path, member.size, member.mode & _PERMISSIONS, chunks)
                for _ in chunks:
                    pass  # what the caller did not want is passed over
    except (tarfile.TarError, EOFError) as error:
        raise EngineUnavailable(f"The Docker daemon's archive of {OUTPUT} is broken: {error}") from error
    if left.excess:
        raise AttemptFailed(Reason.OUTPUT_LIMIT_EXCEEDED, left.excess)


def _wanted_path(member: tarfile.TarInfo, left: Allowance) -> str:
    """Give the path of a member that is to be taken, or an empty text."""
    depth = member.name.count("/")
    if member.isdir():
        left.take_depth(depth)
    if not member.isreg():
        return ""
    path = safe_path(member.name)
    fits = bool(path) and left.take_depth(depth - 1, member.size) and left.take_file(member.size, path)
    return path if fits else ""


def safe_path(name: str) -> str:
    """Give a member's path below ``/output``, or an empty text when it has none.

    Bytes that are no valid UTF-8, and characters that do not print, are written as ``%XX``. So is a ``%``
    that would else look like one of these, so that two files never get the same name.
    """
    parts = [part for part in name.split("/")[1:] if part not in {"", ".", ".."}]
    path = _LOOKS_ESCAPED.sub("%25", "/".join(parts))
    return "".join(character if character.isprintable() else _escaped(character) for character in path)


def _escaped(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogateescape"))


def _chunks(stream: IO[bytes], size: int) -> Iterator[bytes]:
    left = size
    while left > 0:
        try:
            data = stream.read(min(_CHUNK_BYTES, left))
        except tarfile.TarError as error:
            raise EngineUnavailable(f"The Docker daemon's archive of {OUTPUT} is broken: {error}") from error
        if not data:
            raise EngineUnavailable(f"The Docker daemon's archive of {OUTPUT} ends in the middle of a file.")
        left -= len(data)
        yield data


class Allowance:
    """What may still be taken; ``excess`` is a sentence about the first thing that did not fit.

    ``skipping_costs``: a file that is left out has to be read all the same.
    """

    def __init__(self, limits: OutputLimits, *, skipping_costs: bool = True) -> None:
        self._limits = limits
        self._skipping_costs = skipping_costs
        self._bytes = self._files = self._entries = self._skipped = 0
        self.excess = ""
        self.is_spent = False

    def take_entry(self) -> bool:
        """Count a file, folder, link or whatever it is."""
        self._entries += 1
        if self._entries <= self._limits.files * ENTRIES_PER_FILE + 1:
            return True
        # Of a folder that is read from the disk, what was listed before can still be taken.
        return self._refuse(
            f"{OUTPUT} holds more than {self._limits.files * ENTRIES_PER_FILE} entries.", spent=self._skipping_costs
        )

    def take_depth(self, depth: int, size: int = 0) -> bool:
        """Tell whether what lies so many folders below the top may be taken; ``size`` is a file's."""
        return depth <= MAX_DEPTH or self._skip(size, f"{OUTPUT} has folders nested deeper than {MAX_DEPTH}.")

    def take_file(self, size: int, path: str) -> bool:
        """Count a regular file if it fits."""
        limits = self._limits
        if len(path.encode()) > MAX_PATH_BYTES:
            return self._skip(size, f"{OUTPUT}/{path[:80]}... is longer than {MAX_PATH_BYTES} bytes.")
        if self._files >= limits.files:
            return self._refuse(f"{OUTPUT} holds more than {limits.files} files.", spent=True)
        if size > limits.file_bytes:
            return self._skip(size, f"{OUTPUT}/{path} has {size} bytes; a file may have {limits.file_bytes}.")
        if self._bytes + size > limits.total_bytes:
            return self._skip(size, f"{OUTPUT} holds more than {limits.total_bytes} bytes.")
        self._files += 1
        self._bytes += size
        return True

    def _skip(self, size: int, sentence: str) -> bool:
        """Pass over a file, which still has to be read off the stream; a sparse terabyte is not worth that."""
        self._skipped += size if self._skipping_costs else 0
        return self._refuse(sentence, spent=self._skipped > _SKIP_BYTES)

    def _refuse(self, sentence: str, *, spent: bool) -> bool:
        self.excess = self.excess or sentence + " What fits was kept."
        self.is_spent = self.is_spent or spent
        return False


class _Body(io.RawIOBase):
    """The body of an answer as a file to read from."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        data = self._exchange.read(len(view))
        view[: len(data)] = data
        return len(data)
