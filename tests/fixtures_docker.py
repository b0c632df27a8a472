"""Fixtures for tests that need a Docker daemon of their own; they are started once a session."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from dccf.errors import LocalStackError
from dccf.local.daemon import PrivateDaemon
from tests.conftest import missing

_DAEMON = pytest.StashKey[PrivateDaemon]()


def start_daemon(folder: Path, *, own_network: bool = True) -> PrivateDaemon:
    """Start a daemon that has busybox; skip the test where that cannot be, and fail it in CI."""
    daemon = PrivateDaemon(folder, own_network=own_network)
    try:
        daemon.start()
        daemon.ensure_busybox()
    except LocalStackError as error:
        daemon.stop()
        missing(str(error))
    return daemon


@pytest.fixture(scope="session")
def docker_daemon(pytestconfig: pytest.Config) -> PrivateDaemon:
    """A private Docker daemon with the image busybox; no test may stop it.

    Each conftest that imports this fixture has one of its own; the daemon is the same for all.
    """
    if _DAEMON not in pytestconfig.stash:
        folder = Path(tempfile.mkdtemp(prefix="dccf-docker-"))
        pytestconfig.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
        daemon = start_daemon(folder)
        pytestconfig.add_cleanup(daemon.stop)
        pytestconfig.stash[_DAEMON] = daemon
    return pytestconfig.stash[_DAEMON]


@pytest.fixture(scope="session")
def docker_url(docker_daemon: PrivateDaemon) -> str:
    """Where the private daemon is found, as the setting ``docker_url`` wants it."""
    return docker_daemon.docker_url
