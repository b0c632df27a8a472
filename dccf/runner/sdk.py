"""Docker's SDK with one habit mended, a refused connection that leaves a socket behind, and its errors as ours."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import docker
import docker.errors
import requests
from docker.transport.unixconn import UnixHTTPAdapter, UnixHTTPConnection, UnixHTTPConnectionPool

from dccf.errors import EngineUnavailable
from dccf.runner.wire import error_of


class SdkClient(docker.APIClient):
    """An ``APIClient`` for a daemon that may be away.

    The SDK (7.1.0, ``UnixHTTPConnection.connect``) keeps a new socket to itself until it is
    connected, so that nobody can close it when the daemon refuses. Here the connection owns it
    before, and urllib3 closes a connection that fails.
    """

    def __init__(self, docker_url: str, *, version: str, timeout_seconds: float) -> None:
        super().__init__(docker_url, version=version, timeout=int(timeout_seconds))
        if docker_url.startswith("unix://"):
            self.mount("http+docker://", _Adapter(docker_url.removeprefix("unix://"), int(timeout_seconds)))


class _Connection(UnixHTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.unix_socket)


class _Pool(UnixHTTPConnectionPool):
    def __init__(self, url: str, path: str, seconds: int, maxsize: int) -> None:
        super().__init__(url, path, seconds, maxsize)
        self._seconds = seconds

    def _new_conn(self) -> Any:
        return _Connection(self.base_url, self.socket_path, self._seconds)


class _Adapter(UnixHTTPAdapter):
    def get_connection(self, url: Any, proxies: Any = None) -> Any:  # noqa: ARG002 - its signature is the SDK's
        with self.pools.lock:
            pool = self.pools.get(url)
            if pool is None:
                pool = self.pools[url] = _Pool(url, self.socket_path, self.timeout, self.max_pool_size)
            return pool


@contextlib.contextmanager
def mapped_errors() -> Iterator[None]:
    """Turn the SDK's errors into ours; decided by type and status code, never by text.

    Raises:
        Refused, EngineFault, EngineUnavailable: as :mod:`dccf.runner.engine` says.
    """
    try:
        yield
    except docker.errors.APIError as error:
        message = error.explanation if isinstance(error.explanation, str) else str(error)
        raise error_of(error.status_code or 500, message) from error
    except (docker.errors.DockerException, docker.errors.StreamParseError, requests.RequestException) as error:
        raise EngineUnavailable(f"The Docker daemon does not answer: {error}") from error
