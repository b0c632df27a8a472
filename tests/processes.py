"""Starting DCCF's own processes in tests, waiting for what they say, and ending them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
PATIENCE_SECONDS = 60.0
_POLL_SECONDS = 0.05


def wait_for(
    what: str,
    condition: Callable[[], T | None],
    timeout_seconds: float = PATIENCE_SECONDS,
    look: Callable[[], object] = lambda: "",
) -> T:
    """Ask again and again until the condition holds, and give what it gave.

    Fails with ``what`` if it never does, and with what ``look`` then sees.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_seconds:g} s in vain for {what} {look()}".rstrip())
        time.sleep(_POLL_SECONDS)


class DccfProcess:
    """``dccf NAME`` as a process in a session of its own."""

    def __init__(self, arguments: list[str], environment: Mapping[str, str], log: Path) -> None:
        self.log = log
        self._arguments = arguments
        self._environment = dict(environment)
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "dccf", *self._arguments],
                env={**clean_environment(), **self._environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def restart(self) -> None:
        """Start it again after it has ended."""
        self.process.wait(PATIENCE_SECONDS)
        self.process = self._start()

    def kill(self) -> None:
        """Kill -9 of the main process only."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE_SECONDS)

    def stop(self) -> int:
        """SIGTERM, and its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"{self._arguments} did not end:\n{self.log_text()[-4000:]}") from None

    def log_text(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(errors="replace")


def clean_environment() -> dict[str, str]:
    """The environment without any setting of DCCF."""
    return {name: value for name, value in os.environ.items() if not name.startswith("DCCF_")}
