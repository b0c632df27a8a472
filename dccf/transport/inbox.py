"""Messages that wait for the consumer's thread, and the socket that wakes it."""

import contextlib
import os
import selectors
import socket
import time


class WakeUp:
    """A socket pair that an event loop or a selector can wait on; any thread may signal it."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._signalled = False
        self._pid = os.getpid()

    def fileno(self) -> int:
        """Return the descriptor that becomes readable."""
        return self._reader.fileno()

    def signal(self) -> None:
        """Wake the waiting thread; many signals before it wakes are one."""
        if not self._signalled:
            self._signalled = True
            try:
                self._writer.send(b"x")
            except OSError:
                # Full, which wakes just as well, or closed.
                return

    def clear(self) -> None:
        """Make the next signal count again."""
        # Receive first: were the flag cleared first, a signal in between would be received and lost.
        with contextlib.suppress(OSError):
            self._reader.recv(4096)
        self._signalled = False

    def wait(self, timeout_seconds: float | None) -> bool:
        """Wait for a signal; tell whether there was one."""
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._reader, selectors.EVENT_READ)
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            return bool(selector.select(left))

    def close(self) -> None:
        """Close both ends."""
        self._reader.close()
        self._writer.close()
