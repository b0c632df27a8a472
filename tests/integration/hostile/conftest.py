"""A runner on the session's private daemon, and what a test needs to see that nothing is left."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dccf.local.daemon import PrivateDaemon
from dccf.runner.docker_runner import DockerRunner
from dccf.runner.engine import Engine
from tests.fixtures_docker import docker_daemon, docker_url
from tests.runner_kit import Play, runner_settings

__all__ = ["docker_daemon", "docker_url"]

MakePlay = Callable[..., Play]


@dataclass(frozen=True)
class Objects:
    """The names of all objects that a daemon keeps."""

    containers: frozenset[str]
    images: frozenset[str]
    volumes: frozenset[str]
    networks: frozenset[str]


def objects_of(engine: Engine) -> Objects:
    """List everything that a daemon keeps, whoever made it."""
    client = engine.client
    return Objects(
        frozenset(item["Id"] for item in client.containers(all=True)),
        frozenset(item["Id"] for item in client.images(all=True)),
        frozenset(item["Name"] for item in client.volumes()["Volumes"] or ()),
        frozenset(item["Id"] for item in client.networks()),
    )


@pytest.fixture
def engine(docker_url: str) -> Engine:
    """The session's daemon."""
    return Engine(docker_url)


@pytest.fixture
def play(docker_url: str, engine: Engine) -> Iterator[MakePlay]:
    """Makes attempts; when the test is over they are removed, and nothing of them may be left."""
    before = objects_of(engine)
    made: list[Play] = []

    def make(settings: dict[str, object] | None = None, **spec: object) -> Play:
        runner = DockerRunner(runner_settings(docker_url=docker_url, **(settings or {})))
        made.append(Play(runner, **spec))
        return made[-1]

    yield make
    for each in made:
        each.close()
    assert before == objects_of(engine)
    assert not engine.client.df()["BuildCache"]


@pytest.fixture
def internal_server(docker_daemon: PrivateDaemon, tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """An HTTP server that only the daemon can reach, like a metadata service; gives its port and its log."""
    log = tmp_path / "requests"
    program = (
        "import http.server, sys\n"
        "server = http.server.HTTPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler)\n"
        "print(server.server_port, flush=True)\n"
        "server.serve_forever()\n"
    )
    with log.open("wb") as errors:
        server = subprocess.Popen(
            ["nsenter", "--net", "--target", str(docker_daemon.pid), sys.executable, "-c", program],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        assert server.stdout is not None
        with server.stdout:
            port = int(server.stdout.readline())
            yield port, log
            server.kill()
            server.wait()
