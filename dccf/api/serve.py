"""Serves the API with gunicorn: one process, many threads."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication

from dccf import errors, metrics
from dccf.api.app import create_app
from dccf.api.metrics import registry_of
from dccf.api.slow_clients import PatientWorker
from dccf.config import Settings

#: Shutting down waits this long for requests to end; streams come again elsewhere.
_GRACE_SECONDS = 30
_KEEP_ALIVE_SECONDS = 75


class _Server(BaseApplication):  # type: ignore[misc]  # gunicorn ships no types
    """gunicorn without its command line and its configuration files."""

    def __init__(self, make_app: Callable[[], Flask], options: dict[str, Any]) -> None:
        self._make_app = make_app
        self._options = options
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        return self._make_app()


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        ConfigError: the address cannot be listened on.
    """
    require_free("the API", settings.api_host, settings.api_port, "DCCF_API")
    if settings.metrics_port is not None:
        require_free("its metrics port", settings.metrics_host, settings.metrics_port, "DCCF_METRICS")
    host = f"[{settings.api_host}]" if ":" in settings.api_host else settings.api_host
    options = {
        "bind": f"{host}:{settings.api_port}",
        "worker_class": PatientWorker,
        "workers": 1,
        "threads": settings.api_threads,
        "timeout": 0,  # the heart beats beside the requests; slow clients are the worker's business
        "graceful_timeout": _GRACE_SECONDS,
        "keepalive": _KEEP_ALIVE_SECONDS,
        "loglevel": settings.log_level.lower(),
        "proc_name": "dccf-api",
        "control_socket_disable": True,
    }
    _Server(lambda: _make_app(settings), options).run()


def _make_app(settings: Settings) -> Flask:
    """Make the application in the process that answers, and its metrics' own port beside it."""
    app = create_app(settings)
    metrics.serve(settings.metrics_host, settings.metrics_port, registry_of(app))
    return app


def require_free(what: str, host: str, port: int, prefix: str) -> None:
    """Make sure that an address can be listened on, before gunicorn tries it five times.

    Raises:
        ConfigError: it cannot.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise errors.ConfigError(
            f"{what} cannot listen on {host} port {port}: {error.strerror or error}. Is another one running? "
            f"{prefix}_HOST and {prefix}_PORT choose another address."
        ) from error
