"""Keeps one process of the one-machine stack running: ``python -m dccf.local.respawn NAME STACK COMMAND...``.

``STACK`` is the process id of the stack's main process: when it is gone, however it went, we end as well.

The process runs in a session of its own, so that a SIGTERM for the stack reaches only its main
process, which then ends its children in good order. It is started again when it dies, and dies with
us; whatever of its children outlives it is ended before the next start, so that no port stays taken.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

#: A process that ran for less than this is started again more and more slowly.
STEADY_SECONDS = 10.0
FIRST_WAIT_SECONDS = 0.2
LONGEST_WAIT_SECONDS = 10.0
#: A process that was told to end gets this long before it and its children are killed.
END_SECONDS = 15.0
#: Exit codes that starting again would not change: usage and configuration errors.
FINAL_CODES = frozenset({2, 78})
_POLL_SECONDS = 0.05
_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    """Have the kernel end this process when its parent dies (prctl(2))."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Respawner:
    """Starts a command, again and again until it is told to stop."""

    def __init__(self, name: str, stack_pid: int, command: list[str]) -> None:
        self._name = name
        self._stack = Path(f"/proc/{stack_pid}")
        self._command = command
        self._end_by: float | None = None

    def run(self) -> int:
        """Run until SIGTERM or SIGINT; give the last exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note_end)
        wait_seconds = FIRST_WAIT_SECONDS
        while self._end_by is None:
            started = time.monotonic()
            code = self._run_once()
            if self._end_by is not None:
                break
            if code in FINAL_CODES:
                return code
            ran_steadily = time.monotonic() - started > STEADY_SECONDS
            wait_seconds = FIRST_WAIT_SECONDS if ran_steadily else min(wait_seconds * 2, LONGEST_WAIT_SECONDS)
            sys.stderr.write(f"{self._name} ended with {code}; starting it again in {wait_seconds:.1f} s\n")
            sys.stderr.flush()
            self._pause(wait_seconds)
        return 0

    def _run_once(self) -> int:
        process = subprocess.Popen(
            self._command,
            start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - no threads run here
        )
        was_told = False
        while process.poll() is None:
            if self._end_by is None and not self._stack.exists():
                self._end_by = time.monotonic() + END_SECONDS
            if self._end_by is not None and not was_told:
                process.terminate()
                was_told = True
            if self._end_by is not None and time.monotonic() > self._end_by:
                break
            time.sleep(_POLL_SECONDS)
        with contextlib.suppress(ProcessLookupError):  # nobody of its session is left
            os.killpg(process.pid, signal.SIGKILL)
        return process.wait()

    def _pause(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self._end_by is None and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)

    def _note_end(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - a handler's signature
        self._end_by = time.monotonic() + END_SECONDS


if __name__ == "__main__":
    sys.exit(Respawner(sys.argv[1], int(sys.argv[2]), sys.argv[3:]).run())
