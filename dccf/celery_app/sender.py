"""Sends hints behind the back of whoever submits: a broker that does not answer keeps no submit waiting."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence

from dccf import errors
from dccf.store.outbox import Hint

log = logging.getLogger(__name__)

#: A process that ends waits this long for its hints; one that is not out by then counts as lost, and is sent again.
EXIT_SECONDS = 3.0


class HintSender:
    """Hands hints to the broker in their order, on a thread that lives while there are any.

    How many may wait here is bounded by who takes them: they are noted as sent, and no more are out
    than their queue has room for (:func:`dccf.lifecycle.hints.take_first`).
    """

    def __init__(self, send: Callable[[Sequence[Hint]], object]) -> None:
        self._send = send
        self.forget()
        _senders.add(self)

    def forget(self) -> None:
        """Begin anew in a forked child: the thread and what waited are the parent's."""
        self._lock = threading.Lock()
        self._waiting: list[Hint] = []
        self._thread: threading.Thread | None = None

    def put(self, hints: Sequence[Hint]) -> None:
        """Take hints and return at once."""
        if not hints:
            return
        with self._lock:
            self._waiting.extend(hints)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="hints", daemon=True)
                self._thread.start()

    def wait(self, timeout_seconds: float) -> None:
        """Wait until all is sent or put back, within a time."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout_seconds)

    def _run(self) -> None:
        while taken := self._take():
            try:
                self._send(taken)
            except errors.StoreUnavailable as error:
                log.warning("%d hints that could not be sent were not put back: %s", len(taken), error)
            except Exception:  # this thread has nobody to tell, and later hints need it
                log.exception("%d hints could not be sent", len(taken))

    def _take(self) -> list[Hint]:
        with self._lock:
            taken, self._waiting = self._waiting, []
            if not taken:
                self._thread = None
            return taken


_senders: weakref.WeakSet[HintSender] = weakref.WeakSet()


def _wait_for_all() -> None:
    deadline = time.monotonic() + EXIT_SECONDS
    for sender in list(_senders):
        sender.wait(max(0.0, deadline - time.monotonic()))


def _forget_all() -> None:
    for sender in list(_senders):
        sender.forget()


atexit.register(_wait_for_all)
os.register_at_fork(after_in_child=_forget_all)
