"""Fixtures for tests that need a Docker daemon of their own; they are started once a session."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dccf.errors import LocalStackError
from dccf.local.daemon import PrivateDaemon


def start_daemon(folder: Path, *, own_network: bool = True) -> PrivateDaemon:
    """Start a daemon that has busybox; skip the test where that cannot be, and fail it in CI."""
    daemon = PrivateDaemon(folder, own_network=own_network)
    try:
        daemon.start()
        daemon.ensure_busybox()
    except LocalStackError as error:
        daemon.stop()
        if os.environ.get("DCCF_CI") == "1":
            pytest.fail(f"missing in CI: {error}")
        pytest.skip(str(error))
    return daemon


@pytest.fixture(scope="session")
def docker_daemon() -> Iterator[PrivateDaemon]:
    """A private Docker daemon with the image busybox; no test may stop it."""
    folder = Path(tempfile.mkdtemp(prefix="dccf-docker-"))
    try:
        daemon = start_daemon(folder)
        yield daemon
        daemon.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def docker_url(docker_daemon: PrivateDaemon) -> str:
    """Where the private daemon is found, as the setting ``docker_url`` wants it."""
    return docker_daemon.docker_url
