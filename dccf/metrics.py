"""Serves a process's figures to Prometheus on a port of its own."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, start_http_server

from dccf import errors


def make_registry() -> CollectorRegistry:
    """Make a registry that knows the process: its memory, processor time, files, garbage."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


def serve(host: str, port: int | None, registry: CollectorRegistry) -> Callable[[], None]:
    """Answer ``GET /metrics`` in a thread, unless no port is set; give what ends it.

    It asks nobody who they are and answers every path alike: it belongs on a network of one's own.

    Raises:
        ConfigError: the address cannot be listened on.
    """
    if port is None:
        return lambda: None
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise errors.ConfigError(
            f"metrics cannot be served on {host} port {port}: {error.strerror or error}. Does another process of "
            "this machine have the same DCCF_METRICS_PORT? Each needs one of its own."
        ) from error
    # A pool process that outlives its main process must not hold the port.
    os.register_at_fork(after_in_child=server.socket.close)
    return lambda: _close(server, thread)


def _close(server: WSGIServer, thread: threading.Thread) -> None:
    server.shutdown()
    server.server_close()
    thread.join()
