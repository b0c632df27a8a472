"""Brokers to compare with, started here: RabbitMQ and Redis, each in a folder and on a port of its own."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

#: Debian's command of the same name changes to a user of its own and to the system's node; this one does not.
_RABBITMQ = "/usr/lib/rabbitmq/bin/rabbitmq-server"
_START_SECONDS = 60.0
_STOP_SECONDS = 20.0


def free_port() -> int:
    """Return a port of loopback that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def rabbitmq(folder: Path) -> Iterator[str]:
    """Run a RabbitMQ node that shares nothing with one of the machine's, and yield its URL."""
    port, epmd_port = free_port(), free_port()
    folder.mkdir(parents=True)
    (folder / "enabled_plugins").write_text("[].\n")
    environment = os.environ | {
        # Erlang keeps the node's cookie in the home folder.
        "HOME": str(folder),
        "RABBITMQ_NODENAME": f"peer{port}@localhost",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "ERL_EPMD_PORT": str(epmd_port),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
    }
    # The node would leave a daemon behind where it had to start Erlang's name service itself.
    with (
        _process(["epmd"], epmd_port, folder / "epmd.log", environment),
        _process([_RABBITMQ], port, folder / "rabbitmq.log", environment),
    ):
        yield f"pyamqp://guest:guest@127.0.0.1:{port}//"


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[str]:
    """Run Redis without persistence and yield its URL, to which the number of a database is appended."""
    port = free_port()
    folder.mkdir(parents=True)
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with _process(command, port, folder / "redis.log"):
        yield f"redis://127.0.0.1:{port}/"


@contextlib.contextmanager
def _process(command: list[str], port: int, log: Path, environment: dict[str, str] | None = None) -> Iterator[None]:
    """Run a server while the block lasts, from when its port answers."""
    with log.open("ab") as output, subprocess.Popen(command, stdout=output, stderr=output, env=environment) as server:
        try:
            _wait_for(port, server, log)
            yield
        finally:
            server.terminate()
            try:
                server.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                server.kill()


def _wait_for(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise RuntimeError(f"{server.args!r} did not start: {log.read_text(errors='replace')[-2000:]}")
