"""Lets the builds of this machine that would disturb each other take turns."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from dccf.errors import AttemptFailed, AttemptStopped
from dccf.models import Reason
from dccf.runner import locks
from dccf.runner.base import StopSignal

POLL_SECONDS = 0.05


@contextlib.contextmanager
def turn(path: Path, stop: StopSignal, timeout_seconds: float, what: str) -> Iterator[None]:
    """Hold a lock, once those who hold it are done; ``what`` says what they do, for people.

    Raises:
        AttemptFailed: ``build_timed_out``: they took too long.
        AttemptStopped: ``stop`` said so while this one waited.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        with locks.held(path) as is_ours:
            if is_ours:
                yield
                return
        cause = stop.cause()
        if cause is not None:
            raise AttemptStopped(cause)
        if time.monotonic() > deadline:
            raise AttemptFailed(Reason.BUILD_TIMED_OUT, f"{what} for longer than {timeout_seconds:g} s.")
        time.sleep(POLL_SECONDS)
