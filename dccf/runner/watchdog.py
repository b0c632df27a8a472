"""Watches one running container: its end, its limits of time, log and disk, and whether it is told to stop."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from dccf.errors import DccfError, EngineUnavailable
from dccf.models import Reason, StopCause
from dccf.runner.base import StopSignal
from dccf.runner.diskguard import DiskGuard
from dccf.runner.engine import Engine
from dccf.runner.wire import Refused

#: How often the stop signal is asked; the contract allows 0.1 s.
POLL_SECONDS = 0.05
#: Longest wait for the end of a container that was killed; 0.2 s was the most seen.
KILL_SECONDS = 30.0


@dataclass(frozen=True)
class Verdict:
    """Why the container was killed; both are ``None`` when it ended by itself. The first reason wins."""

    stopped: StopCause | None = None
    reason: Reason | None = None


class Waiter:
    """Waits for the end of a started container in a thread of its own.

    The end of a log stream says nothing about the container; the answer to this wait does.
    """

    def __init__(self, engine: Engine, container: str) -> None:
        self._engine = engine
        self._container = container
        self._error: DccfError | Refused | None = None
        self.ended = threading.Event()
        threading.Thread(target=self._wait, name="dccf-waiter", daemon=True).start()

    def check(self) -> None:
        """Pass on what the wait ran into.

        Raises:
            EngineUnavailable: the daemon went away, so nobody knows about the container.
        """
        if isinstance(self._error, Refused):
            raise EngineUnavailable(f"The Docker daemon has lost the container: {self._error}") from self._error
        if self._error is not None:
            raise self._error

    def _wait(self) -> None:
        try:
            self._engine.wait(self._container)
        except (DccfError, Refused) as error:
            self._error = error
        finally:
            self.ended.set()


def watch(
    engine: Engine,
    container: str,
    stop: StopSignal,
    log_limit_exceeded: threading.Event,
    timeout_seconds: float,
    disk_limit_bytes: int | None = None,
) -> Verdict:
    """Wait for the end of a started container, and kill it when it has to end.

    It is dead on return, but where the worker's main process died: then the next life of the worker goes on with it.
    ``disk_limit_bytes`` is the most that it may write to its own file system; ``None`` where it can write nothing.

    Raises:
        EngineUnavailable: the daemon went away, or the container does not die.
    """
    waiter = Waiter(engine, container)
    deadline = time.monotonic() + timeout_seconds
    exceeded = {Reason.LOG_LIMIT_EXCEEDED: log_limit_exceeded}
    verdict = Verdict()
    with contextlib.ExitStack() as guards:
        if disk_limit_bytes is not None:
            guard = DiskGuard(engine, container, disk_limit_bytes)
            guards.callback(guard.close)
            exceeded[Reason.DISK_LIMIT_EXCEEDED] = guard.exceeded
        while verdict == Verdict() and not waiter.ended.wait(
            min(POLL_SECONDS, max(0.001, deadline - time.monotonic()))
        ):
            verdict = _verdict(stop, exceeded, deadline)
    if verdict.stopped is StopCause.ORPHANED:
        return verdict
    if verdict != Verdict():
        engine.kill(container)
        if not waiter.ended.wait(KILL_SECONDS):
            raise EngineUnavailable(f"A container was killed and did not end within {KILL_SECONDS:g} s.")
    waiter.check()
    return verdict


def _verdict(stop: StopSignal, exceeded: Mapping[Reason, threading.Event], deadline: float) -> Verdict:
    cause = stop.cause()
    if cause is not None:
        return Verdict(stopped=cause)
    for reason, event in exceeded.items():
        if event.is_set():
            return Verdict(reason=reason)
    if time.monotonic() >= deadline:
        return Verdict(reason=Reason.TIMED_OUT)
    return Verdict()
