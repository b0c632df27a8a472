"""One LISTEN connection per process tells all waiting requests which jobs have changed."""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from dccf import errors
from dccf.lifecycle import channels
from dccf.store.database import Database, Listener

log = logging.getLogger(__name__)

#: How long the listening thread waits before it looks whether it shall end.
_WAIT_SECONDS = 0.5
_RECONNECT_SECONDS = 1.0


class Changes:
    """Wakes requests when their job changes.

    The thread starts with the first watch and ends when the last is gone, so that it belongs to the
    process that serves requests (not to one that forks it), and an idle server keeps no connection.
    A wake may be missed while PostgreSQL is away: watchers also look by themselves now and then.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._watches: dict[str, set[threading.Event]] = defaultdict(set)
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()

    @contextmanager
    def watch(self, job_id: UUID) -> Iterator[threading.Event]:
        """Give an event that is set whenever the job has changed; the watcher clears it."""
        event, key = threading.Event(), str(job_id)
        with self._lock:
            self._watches[key].add(event)
            if self._thread is None:
                self._thread = threading.Thread(target=self._listen, name="dccf-changes", daemon=True)
                self._thread.start()
        try:
            yield event
        finally:
            with self._lock:
                self._watches[key].discard(event)
                if not self._watches[key]:
                    del self._watches[key]

    def close(self) -> None:
        """End the thread and its connection."""
        self._closing.set()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()

    def _listen(self) -> None:
        while self._goes_on():
            try:
                self._pass_on()
            except errors.StoreUnavailable as error:
                log.warning("changes of jobs are not heard of for the moment: %s", error)
                self._closing.wait(_RECONNECT_SECONDS)

    def _pass_on(self) -> None:
        listener = Listener(self._database, channels.JOB_CHANGED)
        try:
            self._wake(None)
            while self._goes_on():
                for _, payload in listener.wait(_WAIT_SECONDS):
                    self._wake(payload)
        finally:
            listener.close()

    def _wake(self, key: str | None) -> None:
        """Wake the watchers of one job, or all: nobody knows what happened before we listened."""
        with self._lock:
            chosen = self._watches.values() if key is None else [self._watches.get(key, set())]
            for events in chosen:
                for event in events:
                    event.set()

    def _goes_on(self) -> bool:
        with self._lock:
            if self._closing.is_set() or not self._watches:
                self._thread = None
                return False
            return True
