"""Messages that wait for the consumer's thread, and the socket that wakes it."""

import collections
import contextlib
import logging
import selectors
import socket
from collections.abc import Callable

logger = logging.getLogger(__name__)

#: About 50 MB of Celery's events.
MOST_WAITING = 50_000


class WakeUp:
    """A socket pair that an event loop or a selector can wait on; any thread may signal it."""

    def __init__(self) -> None:
        # Unconnected until `open`: a transport that never connects must leave nothing to close.
        self._reader: socket.socket | None = None
        self._writer: socket.socket | None = None
        self._signalled = False

    def open(self) -> None:
        """Make the sockets; safe to call twice."""
        if self._reader is None:
            self._reader, self._writer = socket.socketpair()
            self._reader.setblocking(False)
            self._writer.setblocking(False)

    def fileno(self) -> int:
        """Return the descriptor that becomes readable."""
        return self._opened().fileno()

    def signal(self) -> None:
        """Wake the waiting thread; many signals before it wakes are one."""
        if self._writer is not None and not self._signalled:
            self._signalled = True
            # Full, which wakes just as well, or closed.
            with contextlib.suppress(OSError):
                self._writer.send(b"x")

    def clear(self) -> None:
        """Make the next signal count again."""
        # Receive first: were the flag cleared first, a signal in between would be received and lost.
        with contextlib.suppress(OSError):
            self._opened().recv(4096)
        self._signalled = False

    def wait(self, timeout_seconds: float | None) -> bool:
        """Wait for a signal; tell whether there was one."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._opened(), selectors.EVENT_READ)
            return bool(selector.select(None if timeout_seconds is None else max(0.0, timeout_seconds)))

    def close(self) -> None:
        """Close both ends; `open` makes new ones."""
        for sock in (self._reader, self._writer):
            if sock is not None:
                sock.close()
        self._reader = self._writer = None

    def _opened(self) -> socket.socket:
        if self._reader is None:
            raise ConnectionError("the connection is closed")
        return self._reader


class PrivateQueue:
    """What the exchanges of a private queue have brought, from its first binding on.

    A consumer that stands still loses the oldest, as with RabbitMQ, where Celery lets events expire: the memory of
    its process has an end.
    """

    def __init__(self, name: str, wake_up: WakeUp) -> None:
        self.name = name
        self.waiting: collections.deque[bytes] = collections.deque(maxlen=MOST_WAITING)
        self.unsubscribe: list[Callable[[], None]] = []
        self._wake_up = wake_up
        self._is_full = False

    def put(self, value: bytes) -> None:
        """Take a broadcast; called on the reader's thread."""
        if len(self.waiting) == MOST_WAITING and not self._is_full:
            logger.warning(
                "queue %s: %d broadcasts wait for its consumer; older ones are dropped", self.name, MOST_WAITING
            )
        self._is_full = len(self.waiting) == MOST_WAITING
        self.waiting.append(value)
        self._wake_up.signal()

    def close(self) -> None:
        """End the subscriptions."""
        for end in self.unsubscribe:
            end()
        self.unsubscribe.clear()
