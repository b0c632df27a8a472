"""Kills, freezes and outages in an order that a seed decides."""

from __future__ import annotations

import contextlib
import os
import random
import shlex
import signal
import subprocess
import threading
import time
from pathlib import Path

from tests.acceptance.conftest import Stack, _command
from tests.processes import wait_for

#: The lease of the stack is 9 s: some of the freezes last longer, so that their workers are declared lost.
FREEZE_SECONDS = (1.0, 14.0)
PAUSE_SECONDS = (2.0, 8.0)
OUTAGE_SECONDS = 20.0
NAMES = ("worker", "worker", "controller", "api")


class Havoc:
    """Does harm to a stack in a thread of its own until it is told to stop."""

    def __init__(self, stack: Stack, seed: int) -> None:
        self._stack = stack
        self._random = random.Random(seed)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="havoc")
        self._postgres: subprocess.Popen[bytes] | None = None
        self.done: list[str] = []

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the harm; everything is left running."""
        self._ended.set()
        self._thread.join()

    def close(self) -> None:
        """End the PostgreSQL that was started here: the stack ends only its own."""
        if self._postgres is not None:
            self._postgres.send_signal(signal.SIGINT)
            self._postgres.wait(60)

    def _run(self) -> None:
        acts = 0
        while not self._ended.wait(self._random.uniform(*PAUSE_SECONDS)):
            acts += 1
            if acts == 4:
                self._stop_postgres()
            elif acts == 8:
                self._kill_broker()
            elif self._random.random() < 0.5:
                self._kill(self._random.choice(NAMES))
            else:
                self._freeze(self._random.choice(NAMES), self._random.uniform(*FREEZE_SECONDS))

    def _kill(self, name: str) -> None:
        """Kill -9 of a main process; the supervisor starts it again."""
        pid = self._stack.main_process(name)
        if pid is not None:
            self.done.append(f"kill {name}")
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _freeze(self, name: str, seconds: float) -> None:
        """SIGSTOP of all processes of one name, as a machine that is cut off, and SIGCONT after a while."""
        pids = [pid for pid in self._stack.processes() if _command(pid)[1:] == ["-m", "dccf", name]]
        self.done.append(f"freeze {name} for {seconds:.1f} s")
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            if number is signal.SIGSTOP:
                self._ended.wait(seconds)

    def _kill_broker(self) -> None:
        """Kill -9 of Kafka, where the stack has one; ``dccf up`` starts it again."""
        for pid in self._stack.processes():
            if "kafka.Kafka" in _command(pid):
                self.done.append("kill Kafka")
                os.kill(pid, signal.SIGKILL)

    def _stop_postgres(self) -> None:
        """Stop PostgreSQL as a power cut would, and start it again with the same command after a while."""
        data = self._stack.folder / "postgres" / "data"
        pid = int((data / "postmaster.pid").read_text().splitlines()[0])
        command = shlex.split((data / "postmaster.opts").read_text())
        self.done.append(f"PostgreSQL away for {OUTAGE_SECONDS:g} s")
        os.kill(pid, signal.SIGQUIT)
        wait_for("PostgreSQL to end", lambda: not Path(f"/proc/{pid}").exists() or _is_zombie(pid))
        time.sleep(OUTAGE_SECONDS)
        owner = data.stat()
        with (data / "log").open("ab") as log:
            self._postgres = subprocess.Popen(
                command,
                user=owner.st_uid,
                group=owner.st_gid,
                extra_groups=[],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                cwd=data,
            )


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True
