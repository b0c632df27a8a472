"""A short soak: of many jobs, a third of them killed, cancelled or failing, nothing is left."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures_docker import docker_daemon

__all__ = ["docker_daemon"]

pytestmark = pytest.mark.docker

REPOSITORY = Path(__file__).parents[3]


@pytest.mark.usefixtures("docker_daemon")
def test_thirty_jobs_leave_nothing() -> None:
    """The same as ``scripts/bench soak_runner``, which plays a thousand, on a daemon of its own."""
    command = [sys.executable, "-m", "bench.soak_runner", "--jobs", "30", "--slots", "4"]

    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing is left" in done.stdout
