"""A gunicorn worker that waits for nobody for ever: a client holds a thread only while it does its part."""

from __future__ import annotations

import logging
import socket
import time
from contextlib import suppress
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

log = logging.getLogger(__name__)

#: The head of a request comes in one packet or a few; whoever takes longer has not even said who they are.
HEAD_SECONDS = 10.0
#: A body may take as long as it likes, but not stand still for so long; the same for what a client reads.
IDLE_SECONDS = 60.0


class PatientWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn ships no types
    """gunicorn's worker with threads, which by itself reads and writes without any limit of time."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: Connections that a thread reads a head from, since when. Threads of the pool write, the main loop reads.
        self._heads: dict[Any, float] = {}

    def handle(self, conn: Any) -> Any:
        """Read a request from a connection and answer it."""
        self._heads[conn] = time.monotonic()
        try:
            return super().handle(conn)
        finally:
            self._heads.pop(conn, None)

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Answer a request whose head is there."""
        self._heads.pop(conn, None)
        conn.sock.settimeout(IDLE_SECONDS)
        try:
            return super().handle_request(req, conn)
        except TimeoutError:
            log.info("a client took nothing of its answer for %g s and was left", IDLE_SECONDS)
            return False

    def murder_pending(self) -> None:
        """Close what is too slow; the main loop calls this about once a second."""
        super().murder_pending()
        now = time.monotonic()
        for conn, since in tuple(self._heads.items()):
            if now - since > HEAD_SECONDS:
                with suppress(OSError):  # it is closed already
                    conn.sock.shutdown(socket.SHUT_RDWR)
