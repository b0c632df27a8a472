"""Takes the regular files out of a folder that a container left, trusting nothing that it made.

Every step is taken relative to an open folder and follows no link; pipes and devices are never opened, and no
file is read before its size was held against the limits. The container is dead by then; nothing relies on that.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from dccf.errors import AttemptFailed, EngineUnavailable
from dccf.models import Reason
from dccf.runner.base import OutputFile
from dccf.runner.collect import Allowance, OutputLimits, safe_path
from dccf.runner.spec import OUTPUT

_CHUNK_BYTES = 1 << 18
_PERMISSIONS = 0o777
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def files_in(root: Path, limits: OutputLimits) -> Iterator[OutputFile]:
    """Yield the regular files below a folder, in the order of their names, within the limits.

    Raises:
        AttemptFailed: ``output_limit_exceeded``, after yielding what fits.
        EngineUnavailable: something cannot be read.
    """
    allowance = Allowance(limits, skipping_costs=False)
    try:
        with contextlib.closing(_Walk(root, allowance)) as walk:
            yield from walk.files()
    except OSError as error:
        raise EngineUnavailable(f"What a container wrote cannot be read: {error}") from error
    if allowance.excess:
        raise AttemptFailed(Reason.OUTPUT_LIMIT_EXCEEDED, allowance.excess)


class _Walk:
    """One walk, with the folders on the way to the present one open."""

    def __init__(self, root: Path, allowance: Allowance) -> None:
        self._allowance = allowance
        self._names: list[str] = []
        self._open: list[tuple[int, list[str]]] = []
        self._enter(os.open(root, _FOLDER))

    def close(self) -> None:
        while self._open:
            os.close(self._open.pop()[0])

    def files(self) -> Iterator[OutputFile]:
        while self._open and not self._allowance.is_spent:
            folder, left = self._open[-1]
            if not left:
                os.close(self._open.pop()[0])
                if self._names:
                    self._names.pop()
                continue
            name = left.pop()
            mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
            if stat.S_ISREG(mode):
                yield from self._file(folder, name)
            elif stat.S_ISDIR(mode) and self._allowance.take_depth(len(self._open)):
                self._names.append(name)
                self._enter(os.open(name, _FOLDER, dir_fd=folder))

    def _enter(self, folder: int) -> None:
        """List a folder as far as entries are allowed: it may have millions."""
        self._open.append((folder, []))
        with os.scandir(folder) as entries:
            names = []
            for entry in entries:
                if not self._allowance.take_entry():
                    break
                names.append(entry.name)
        self._open[-1] = (folder, sorted(names, reverse=True))

    def _file(self, folder: int, name: str) -> Iterator[OutputFile]:
        descriptor = os.open(name, _FILE, dir_fd=folder)
        try:
            found = os.fstat(descriptor)
            path = safe_path("/".join([OUTPUT.strip("/"), *self._names, name]))
            if stat.S_ISREG(found.st_mode) and self._allowance.take_file(found.st_size, path):
                chunks = _chunks(descriptor, found.st_size)
                yield OutputFile(path, found.st_size, found.st_mode & _PERMISSIONS, chunks)
        finally:
            os.close(descriptor)


def _chunks(descriptor: int, size: int) -> Iterator[bytes]:
    left = size
    while left > 0:
        data = os.read(descriptor, min(_CHUNK_BYTES, left))
        if not data:
            raise EngineUnavailable("A file in /output became shorter while it was read.")
        left -= len(data)
        yield data
