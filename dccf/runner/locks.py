"""Locks between the processes of one machine, on files; the kernel lets go of them when a process dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_open: set[IO[str]] = set()


@contextlib.contextmanager
def held(path: Path, *, shared: bool = False) -> Iterator[bool]:
    """Try to lock a file, alone or together with others; tells whether it could be had. It never waits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        _open.add(lock)
        try:
            yield _try(lock, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        finally:
            _open.discard(lock)


def _try(lock: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _close_all() -> None:
    """A forked process has copies of the locks, which would stay locked as long as it lives."""
    for lock in _open:
        lock.close()
    _open.clear()


os.register_at_fork(after_in_child=_close_all)
