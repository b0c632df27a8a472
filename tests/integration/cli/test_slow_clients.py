"""A real server with four threads, and clients that hold all of them by sending or reading nothing more."""

from __future__ import annotations

import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from dccf.config import Settings
from dccf.store.database import Database
from tests.integration.api.playing import play
from tests.integration.cli.conftest import TOKEN, wait_until_up
from tests.processes import PATIENCE_SECONDS

pytestmark = pytest.mark.postgres

THREADS = 4
AUTH = f"Authorization: Bearer {TOKEN}\r\n"
#: The server of ``dccf api``, with limits that a test can wait for.
SERVER = """
from dccf import config
from dccf.api import serve, slow_clients
slow_clients.HEAD_SECONDS = slow_clients.IDLE_SECONDS = 1.0
serve.run(config.load())
"""


@pytest.fixture
def port(server_environ: dict[str, str], tmp_path: Path) -> Iterator[int]:
    environ = server_environ | {"DCCF_API_THREADS": str(THREADS)}
    number = int(environ["DCCF_API_PORT"])
    with (tmp_path / "api.log").open("w") as log:
        process = subprocess.Popen([sys.executable, "-c", SERVER], env=environ, stdout=log, stderr=log)
    try:
        wait_until_up(f"http://127.0.0.1:{number}", process)
        yield number
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


def hold(port: int, request: str, count: int = THREADS) -> list[socket.socket]:
    held = []
    for _ in range(count):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(PATIENCE_SECONDS)
        client.connect(("127.0.0.1", port))
        client.sendall(request.encode())
        held.append(client)
    return held


def assert_served(port: int) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=PATIENCE_SECONDS) as answer:
        assert answer.status == 200


def test_half_sent_heads_do_not_keep_others_out(port: int) -> None:
    held = hold(port, "GET /healthz HTTP/1.1\r\nHost: a\r\nX: ")

    assert_served(port)
    for client in held:
        assert client.recv(1) == b""
        client.close()


def test_a_body_that_stands_still_is_given_up_and_its_sender_is_told(port: int) -> None:
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: a\r\n{AUTH}Content-Type: multipart/form-data; boundary=B\r\n"
    held = hold(port, f"{head}Content-Length: 1000\r\n\r\n--B\r\n")

    assert_served(port)
    for client in held:
        with client, client.makefile("rb") as answer:
            assert answer.readline().split()[1] == b"408"


def test_a_client_that_reads_nothing_does_not_keep_others_out(
    port: int, database: Database, settings: Settings
) -> None:
    body = b'--B\r\nContent-Disposition: form-data; name="dockerfile"\r\n\r\nFROM busybox\r\n--B--\r\n'
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/submit",
        body.replace(b'"dockerfile"', b'"dockerFile"'),
        {"Authorization": f"Bearer {TOKEN}", "Content-Type": "multipart/form-data; boundary=B"},
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
        job_id = answer.read().decode().strip().strip('"')
    # More than what the kernel takes on both sides of a connection that nobody reads from.
    play(database, settings, job_id, files={"big": bytes(32 << 20)})
    held = hold(port, f"GET /v1/jobs/{job_id}/artifacts/big HTTP/1.1\r\nHost: a\r\n{AUTH}\r\n")

    assert_served(port)
    for client in held:
        client.close()
