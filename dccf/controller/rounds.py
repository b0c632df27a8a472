"""A loop of sweeps on a thread of its own: what hangs in it holds up no other loop."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from dccf import errors
from dccf.controller.metrics import ControllerMetrics
from dccf.controller.sweeps import Sweep
from dccf.store.database import Database, Listener

log = logging.getLogger(__name__)

#: Wakes that come in a burst are answered together.
_BURST_SECONDS = 0.02


@dataclass
class Loop:
    """Runs its sweeps one after the other, again and again; PostgreSQL may come and go."""

    name: str
    sweeps: tuple[Sweep, ...]
    metrics: ControllerMetrics
    #: Pause between two rounds.
    pause_seconds: float
    #: A round that takes longer than this hangs.
    longest_round_seconds: float
    #: A NOTIFY on this channel of this database cuts the pause short.
    wake: tuple[Database, str] | None = None

    def __post_init__(self) -> None:
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._turned_at = time.monotonic()
        #: What the loop died of; it is not started again.
        self.failure: Exception | None = None

    @property
    def is_turning(self) -> bool:
        """Whether the loop lives and its last round began not too long ago."""
        is_alive = self._thread is not None and self._thread.is_alive()
        return is_alive and time.monotonic() - self._turned_at < self.longest_round_seconds

    def start(self, when_dead: Callable[[], None]) -> None:
        """Begin; ``when_dead`` is called on the loop's thread if it dies of an error."""
        self._turned_at = time.monotonic()
        # A thread that hangs must not keep the process from ending: what it has in hand is done again by others.
        self._thread = threading.Thread(target=self._live, args=(when_dead,), name=f"loop-{self.name}", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Let this round be the last one."""
        self._ended.set()

    def join(self, timeout_seconds: float) -> bool:
        """Wait until the loop has ended; tell whether it has."""
        if self._thread is None:
            return True
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def do_round(self) -> None:
        """Run every sweep that is due, once.

        Raises:
            StoreUnavailable: PostgreSQL is away; the rest is done next time.
        """
        for sweep in self.sweeps:
            sweep.run_when_due()
        self.metrics.note_round(self.name)

    def _live(self, when_dead: Callable[[], None]) -> None:
        try:
            self._turn()
        except Exception as error:  # whatever it was: a controller without this loop must not look alive
            log.exception("the loop %r died", self.name)
            self.failure = error
            when_dead()

    def _turn(self) -> None:
        listener: Listener | None = None
        while not self._ended.is_set():
            self._turned_at = time.monotonic()
            try:
                listener = self._pause(listener)
                self.do_round()
            except errors.StoreUnavailable as error:
                log.warning("the loop %r waits for PostgreSQL: %s", self.name, error)
                if listener is not None:
                    listener.close()
                listener = None
                self._ended.wait(self.pause_seconds)
        if listener is not None:
            listener.close()

    def _pause(self, listener: Listener | None) -> Listener | None:
        if self.wake is None:
            self._ended.wait(self.pause_seconds)
            return None
        listener = listener or Listener(*self.wake)
        listener.wait(self.pause_seconds)
        self._ended.wait(_BURST_SECONDS)
        return listener
