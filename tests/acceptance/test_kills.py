"""kill -9 of each process while 50 jobs run: nothing is lost, nothing counts twice, nothing is left."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from dccf.client import JobHandle
from dccf.models import JobState, Reason
from tests.acceptance.conftest import Stack
from tests.acceptance.leftovers import leftovers
from tests.acceptance.submitting import submit_patiently
from tests.processes import wait_for

pytestmark = [pytest.mark.stack, pytest.mark.docker, pytest.mark.postgres]

JOBS = 50
DOCKERFILE = "FROM busybox\nARG N=none\nCMD sleep 0.3; echo $N > /output/n\n"


def test_killing_api_worker_and_controller_during_50_jobs_loses_nothing(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    with stack.client() as client:
        handles: list[JobHandle] = []
        for number in range(JOBS):
            env = {"N": str(number)}
            handles.append(submit_patiently(client, tmp_path, f"kills-{number}", env=env, labels={"test": "kills"}))
            if number == 10:
                kill(stack, "api")
            if number == 20:
                kill(stack, "worker")
            if number == 30:
                kill(stack, "controller")
        wait_for("10 jobs to end", lambda: ended(handles) >= 10, 120)
        kill(stack, "worker")
        wait_for("all jobs to end", lambda: ended(handles) == JOBS, 240)
        for number, handle in enumerate(handles):
            job, attempts = handle.refresh(), handle.attempts()
            assert job.state == JobState.SUCCEEDED, job.message
            assert f"{number}\n".encode() == b"".join(handle.read_artifact("n"))
            assert list(range(1, job.fence + 1)) == [attempt.fence for attempt in attempts]
            assert [attempt.outcome for attempt in attempts if attempt.reason is None] == ["succeeded"]
            assert {Reason.WORKER_LOST} >= {attempt.reason for attempt in attempts if attempt.reason}
    wait_for("the daemon to be clean", lambda: not leftovers(stack), 120)


def kill(stack: Stack, name: str) -> None:
    """Kill -9 of the main process; the supervisor starts it again."""
    pid = wait_for(f"dccf {name}", lambda: stack.main_process(name))
    os.kill(pid, signal.SIGKILL)
    wait_for(f"another dccf {name}", lambda: stack.main_process(name) not in {None, pid})


def ended(handles: list[JobHandle]) -> int:
    return sum(handle.refresh().state.is_final for handle in handles)
