"""Bounded waiting for things that happen elsewhere."""

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], object], timeout_seconds: float = 30, every_seconds: float = 0.02) -> None:
    """Return as soon as the condition holds; fail when it never does."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_seconds:g} s")
        time.sleep(every_seconds)
