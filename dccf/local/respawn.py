"""Keeps one process of the one-machine stack running: ``python -m dccf.local.respawn NAME COMMAND...``.

The process runs in a session of its own, so that a SIGTERM for the stack reaches only its main
process, which then ends its children in good order. It is started again when it dies, and dies with us.
"""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
import time
from types import FrameType

#: A process that ran for less than this is started again more and more slowly.
STEADY_SECONDS = 10.0
LONGEST_WAIT_SECONDS = 10.0
#: Exit codes that starting again would not change: usage and configuration errors.
FINAL_CODES = frozenset({2, 78})
_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    """Have the kernel end this process when its parent dies (prctl(2))."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Respawner:
    """Starts a command, again and again until it is told to stop."""

    def __init__(self, name: str, command: list[str]) -> None:
        self._name = name
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._is_ending = False

    def run(self) -> int:
        """Run until SIGTERM or SIGINT; give the last exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        wait_seconds = 0.2
        while True:
            started = time.monotonic()
            self._process = subprocess.Popen(
                self._command,
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - no threads run here
            )
            code = self._process.wait()
            if self._is_ending:
                return 0
            if code in FINAL_CODES:
                return code
            ran_steadily = time.monotonic() - started > STEADY_SECONDS
            wait_seconds = 0.2 if ran_steadily else min(wait_seconds * 2, LONGEST_WAIT_SECONDS)
            sys.stderr.write(f"{self._name} ended with {code}; starting it again in {wait_seconds:.1f} s\n")
            sys.stderr.flush()
            self._pause(wait_seconds)
            if self._is_ending:
                return 0

    def _pause(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self._is_ending and time.monotonic() < deadline:
            time.sleep(0.05)

    def _end(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - a handler's signature
        self._is_ending = True
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(Respawner(sys.argv[1], sys.argv[2:]).run())
