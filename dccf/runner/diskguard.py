"""Watches how much a container writes to its own file system, where nothing limits that (``profile: compat``)."""

from __future__ import annotations

import logging
import threading
import time

from dccf.errors import EngineUnavailable
from dccf.runner.engine import Engine
from dccf.runner.wire import Refused

_LOG = logging.getLogger(__name__)

#: The daemon walks through the files to answer, so that asking rests for at least as long as the answer took.
POLL_SECONDS = 0.5


class DiskGuard:
    """Asks the daemon in a thread of its own; ``exceeded`` is set once the container wrote more than it may.

    A soft limit: what is written between two looks is not held back. The daemon adds up the files' sizes as they
    show, so that a sparse file counts as a full one and folders count as nothing.
    """

    def __init__(self, engine: Engine, container: str, limit_bytes: int) -> None:
        self._engine = engine
        self._container = container
        self._limit_bytes = limit_bytes
        self._closing = threading.Event()
        self.exceeded = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="dccf-disk-guard", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ask no more; a question that is being answered ends by itself."""
        self._closing.set()

    def _watch(self) -> None:
        rest = POLL_SECONDS
        while not self._closing.wait(rest):
            asked_at = time.monotonic()
            try:
                described = self._engine.ask(f"/containers/{self._container}/json", {"size": "1"})
            except Refused:
                return  # it is gone
            except EngineUnavailable as error:
                _LOG.debug("The daemon does not say how much a container wrote: %s", error)
            else:
                if int(described.get("SizeRw") or 0) > self._limit_bytes:
                    self.exceeded.set()
                    return
            rest = max(POLL_SECONDS, time.monotonic() - asked_at)
