"""What a submit sends."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from dccf.client import Client
from dccf.errors import InvalidRequest


class Recorder(BaseHTTPRequestHandler):
    """Keeps the body of the last request, and refuses it."""

    body = b""

    def do_POST(self) -> None:
        Recorder.body = self.rfile.read(int(self.headers["Content-Length"]))
        problem = b'{"status": 422, "code": "invalid_request", "title": "no", "detail": "no"}'
        self.send_response(422)
        self.send_header("Content-Type", "application/problem+json")
        self.send_header("Content-Length", str(len(problem)))
        self.end_headers()
        self.wfile.write(problem)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Recorder) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_options_that_were_not_asked_for_are_not_sent_since_an_older_api_may_not_know_them(url: str) -> None:
    with closing(Client(url, "token")) as client, pytest.raises(InvalidRequest):
        client.submit("FROM busybox\nCMD true", cpus=None, secrets={}, retry_exit_codes=(), retries=0)

    assert b'{"retries": 0}' in Recorder.body
