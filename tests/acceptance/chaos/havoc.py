"""Kills, freezes and outages in an order that a seed decides."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time

from tests.acceptance.conftest import Stack, _command

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
        self.done: list[str] = []

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the harm; everything is left running."""
        self._ended.set()
        self._thread.join()

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
        """Stop PostgreSQL as a power cut would, and keep its supervisor from starting it for a while."""
        data = self._stack.folder / "postgres" / "data"
        pid = int((data / "postmaster.pid").read_text().splitlines()[0])
        self.done.append(f"PostgreSQL away for {OUTAGE_SECONDS:g} s")
        # Without this file it takes its folder for no data, and ends at once.
        version = (data / "PG_VERSION").rename(data / "PG_VERSION.away")
        os.kill(pid, signal.SIGQUIT)
        time.sleep(OUTAGE_SECONDS)
        version.rename(data / "PG_VERSION")
