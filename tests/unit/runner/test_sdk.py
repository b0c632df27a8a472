"""The SDK's client for a daemon that is away."""

from __future__ import annotations

import contextlib
import gc
import socket
from pathlib import Path

import pytest
import requests

from dccf.runner.sdk import SdkClient


def test_a_refused_connection_leaves_no_socket_open(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(path))  # it listens to nobody, as the socket of a daemon that has died
    client = SdkClient(f"unix://{path}", version="1.41", timeout_seconds=5)

    with contextlib.closing(client), pytest.raises(requests.ConnectionError):
        client.containers()

    gc.collect()  # a socket that was left open is an error in every test
