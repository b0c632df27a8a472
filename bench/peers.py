"""Brokers to compare with, started here: RabbitMQ and Redis, each in a folder and on a port of its own."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_START_SECONDS = 60.0


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def rabbitmq(folder: Path) -> Iterator[str]:
    """Run Debian's RabbitMQ as a node of its own and yield its URL."""
    port, distribution, epmd = free_port(), free_port(), free_port()
    folder.mkdir(parents=True)
    environment = os.environ | {
        "HOME": str(folder),
        "ERL_EPMD_PORT": str(epmd),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": f"bench{port}@localhost",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_MNESIA_BASE": str(folder),
        "RABBITMQ_LOG_BASE": str(folder),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
    }
    # Debian's wrapper would change to the user `rabbitmq`; the server itself runs as anybody.
    command = ["/usr/lib/rabbitmq/bin/rabbitmq-server"]
    try:
        with _running(command, port, environment, folder):
            yield f"amqp://guest:guest@127.0.0.1:{port}//"
    finally:
        # Erlang's port mapper outlives the node that started it.
        subprocess.run(["epmd", "-port", str(epmd), "-kill"], check=False, capture_output=True)


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    """Run Redis without persistence and yield its URL, to which the number of a database is appended."""
    port = free_port()
    folder.mkdir(parents=True)
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with _running(command, port, dict(os.environ), folder):
        yield f"redis://127.0.0.1:{port}/"


@contextmanager
def _running(command: list[str], port: int, environment: dict[str, str], folder: Path) -> Iterator[None]:
    with (
        (folder / "output").open("wb") as output,
        subprocess.Popen(command, env=environment, stdout=output, stderr=output, cwd=folder) as process,
    ):
        try:
            _wait_for(port, process, folder)
            yield
        finally:
            process.terminate()


def _wait_for(port: int, process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise RuntimeError(f"{process.args!r} does not answer: {(folder / 'output').read_text(errors='replace')[-2000:]}")
