"""One streamed HTTP exchange with the daemon, which any thread can cut off.

The SDK neither closes a running request from another thread nor says where its socket is; builds,
attached output and archives need both.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from dccf.errors import EngineUnavailable

#: What the daemon must speak at least: Docker 20.10.
API_VERSION = "1.41"
READ_BYTES = 1 << 16


class Refused(Exception):
    """Raised when the daemon understood a request and refuses it (status 4xx)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message

    def __str__(self) -> str:
        return self.message


class EngineFault(EngineUnavailable):
    """Raised when the daemon answers that it failed itself (status 5xx)."""


def error_of(status: int, message: str) -> Refused | EngineFault:
    """Turn an error answer of the daemon into the exception for it."""
    if status < 500:
        return Refused(status, message)
    return EngineFault(f"The Docker daemon failed: {message}")


class Exchange:
    """One request and its answer, for one thread; only ``cut`` may be called by others."""

    def __init__(self, docker_url: str, timeout_seconds: float | None) -> None:
        self._socket, self._address = _socket_for(docker_url)
        self._socket.settimeout(timeout_seconds)
        self._connection = http.client.HTTPConnection("docker")
        self._response: http.client.HTTPResponse | None = None
        self._is_cut = False

    def __enter__(self) -> Exchange:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()
        if self._response is not None:
            self._response.close()
        self._connection.close()
        self._socket.close()

    def request(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str],
        body: Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Send a request with a streamed body, and read the head of its answer.

        Raises:
            Refused, EngineFault: the daemon answered with an error.
            EngineUnavailable: the daemon cannot be reached, or the exchange was cut off.
        """
        url = f"/v{API_VERSION}{quote(path)}?{urlencode(parameters)}"
        with _mapped():
            self._socket.connect(self._address)
            self._connection.sock = self._socket
            if self._is_cut:
                raise ConnectionAbortedError("cut off")
            sent = dict(headers or {})
            if body is None:
                self._connection.request(method, url, headers={**sent, "Content-Length": "0"})
            else:
                sent["Transfer-Encoding"] = "chunked"
                self._connection.request(method, url, body=iter(body), headers=sent, encode_chunked=True)
            self._response = self._connection.getresponse()
            if self._response.status >= 400:
                raise error_of(self._response.status, _message_of(self._response.read(READ_BYTES)))

    def header(self, name: str) -> str:
        """Give a header of the answer, or an empty text."""
        return (self._response.getheader(name) if self._response else None) or ""

    def read(self, size: int = READ_BYTES) -> bytes:
        """Read up to ``size`` bytes as soon as there are any; empty at the end.

        Raises:
            EngineUnavailable: the connection broke or was cut off.
        """
        if self._response is None:
            return b""
        with _mapped():
            return self._response.read1(size)

    def cut(self) -> None:
        """Cut the exchange off from any thread; the one that waits in it wakes up."""
        self._is_cut = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def _mapped() -> Iterator[None]:
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        raise EngineUnavailable(f"The Docker daemon does not answer: {error}.") from error


def _socket_for(docker_url: str) -> tuple[socket.socket, Any]:
    url = urlsplit(docker_url)
    if url.scheme == "unix":
        return socket.socket(socket.AF_UNIX), url.path
    return socket.socket(socket.AF_INET), (url.hostname or "127.0.0.1", url.port or 2375)


def _message_of(answer: bytes) -> str:
    """Take the sentence out of an error answer, which is JSON as a rule."""
    try:
        return str(json.loads(answer)["message"])
    except (ValueError, KeyError, TypeError):
        return answer.decode("utf-8", "replace")
