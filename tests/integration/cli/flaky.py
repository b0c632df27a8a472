"""A proxy that cuts connections where a test says, as bad networks do."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class FlakyProxy:
    """Passes bytes on; each connection is cut once the service has sent as many bytes as the next limit says."""

    target: tuple[str, int]
    limits: list[int]
    _listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    _threads: list[threading.Thread] = field(default_factory=list)
    connections: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            limit = self.limits.pop(0) if self.limits else None
            thread = threading.Thread(target=_relay, args=(client, socket.create_connection(self.target), limit))
            thread.start()
            self._threads.append(thread)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive(), "a client that was closed has left a connection open"


def _relay(client: socket.socket, server: socket.socket, limit: int | None) -> None:
    """Pass bytes in both directions until one side ends, or the service has sent its limit."""
    with client, server, contextlib.suppress(OSError):
        while True:
            for source in select.select([client, server], [], [])[0]:
                data = source.recv(65536)
                if source is server and limit is not None:
                    data, limit = data[:limit], limit - len(data)
                (client if source is server else server).sendall(data)
                if not data or (limit is not None and limit <= 0):
                    return


@contextmanager
def flaky_proxy(url: str, *limits: int) -> Iterator[FlakyProxy]:
    """Put a proxy in front of a service; connections after the last limit are never cut."""
    parts = urlsplit(url)
    proxy = FlakyProxy((str(parts.hostname), int(parts.port or 80)), list(limits))
    thread = threading.Thread(target=proxy.serve)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.close()
        thread.join()
