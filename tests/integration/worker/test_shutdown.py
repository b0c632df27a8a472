"""A worker that is told to stop ends, also when its pool processes were told as well."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from dccf.config import Settings
from tests.processes import DccfProcess, wait_for

pytestmark = pytest.mark.postgres


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_it_ends_when_the_whole_group_gets_sigterm_and_it_gets_another(settings: Settings, tmp_path: Path) -> None:
    # A pool process that dies while it waits for work keeps the lock of the pool's queue.
    environment = {
        "DCCF_DATABASE_URL": settings.database_url,
        "DCCF_BROKER_URL": settings.broker_url,
        "DCCF_BROKER_FOLDER": str(settings.broker_folder),
        "DCCF_STATE_FOLDER": str(settings.state_folder),
        "DCCF_RUNNER": "fake",
        "DCCF_WORKER_SLOTS": "2",
    }
    worker = DccfProcess(["worker"], environment, tmp_path / "worker.log")
    try:
        wait_for("the worker", lambda: "ready" in worker.log_text())
        pool = wait_for("its pool", lambda: children_of(worker.process.pid))
        for pid in pool:
            os.kill(pid, signal.SIGTERM)
        worker.process.terminate()
        worker.process.terminate()
        assert worker.process.wait(60) == 0, worker.log_text()
        wait_for("its pool to be gone", lambda: not any(Path(f"/proc/{pid}").exists() for pid in pool))
    finally:
        if worker.process.poll() is None:
            worker.process.kill()
            worker.process.wait(60)
