"""A file whose age says that a process's loop still turns, for whoever watches the process from outside."""

from __future__ import annotations

import contextlib

from dccf.config import Settings


def touch(settings: Settings, process: str) -> None:
    """Say that the loop of ``process`` turns; a disk that is full must not stop it."""
    with contextlib.suppress(OSError):
        settings.state_folder.mkdir(parents=True, exist_ok=True)
        (settings.state_folder / f"{process}.heartbeat").touch()
