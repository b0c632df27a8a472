"""kill -9 of a worker on Kafka: what runs goes on in the same attempt, and nothing of it is lost."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from dccf.client import Client, JobHandle
from dccf.models import JobState, Stream
from tests.acceptance.conftest import Stack
from tests.processes import wait_for

pytestmark = [pytest.mark.stack, pytest.mark.docker, pytest.mark.postgres]

#: Seconds from the start of the worker's next life until it goes on with an attempt.
ADOPTED_SECONDS = 5.0
LINES = 80
DOCKERFILE = (
    f"FROM busybox\nCMD i=0; while [ $i -lt {LINES} ]; do i=$((i+1)); echo line $i; echo err $i >&2; usleep 100000; "
    "done; echo all > /output/done; exit 7\n"
)


def submit(client: Client, folder: Path) -> JobHandle:
    """Submit a job and wait until it has begun to print."""
    (folder / "Dockerfile").write_text(DOCKERFILE)
    handle = client.submit(folder, labels={"test": "adoption"})
    wait_for("its first lines", lambda: b"line 10\n" in log_of(handle, Stream.STDOUT))
    return handle


def log_of(handle: JobHandle, stream: Stream) -> bytes:
    return b"".join(handle.read_log([stream]))


def history_of(handle: JobHandle) -> str:
    return "\n".join(event.message for event in handle.history())


def new_worker(stack: Stack, old: int) -> int | None:
    pid = stack.main_process("worker")
    return None if pid == old else pid


def require_one_whole_attempt(handle: JobHandle) -> None:
    """Exit code, output and every line once, from the first attempt."""
    job = handle.wait(60).refresh()
    assert (job.state, job.exit_code, job.fence, job.failures) == (JobState.FAILED, 7, 1, 1), history_of(handle)
    (attempt,) = handle.attempts()
    assert attempt.exit_code == 7
    for stream, word in ((Stream.STDOUT, "line"), (Stream.STDERR, "err")):
        assert log_of(handle, stream).decode() == "".join(f"{word} {number + 1}\n" for number in range(LINES))
    assert b"".join(handle.read_artifact("done")) == b"all\n"


def test_a_worker_that_was_killed_goes_on_with_its_containers(stack: Stack, tmp_path: Path) -> None:
    with stack.client() as client:
        handle = submit(client, tmp_path)
        old = wait_for("the worker", lambda: stack.main_process("worker"))
        os.kill(old, signal.SIGKILL)
        wait_for("another worker", lambda: new_worker(stack, old))
        began = time.monotonic()
        wait_for("the adoption", lambda: "was started again; the attempt goes on" in history_of(handle))
        adopted_after = time.monotonic() - began
        require_one_whole_attempt(handle)
        (tmp_path / "Dockerfile").write_text("FROM busybox\nCMD true\n")
        assert client.submit(tmp_path).wait(60).status() == JobState.SUCCEEDED, "the worker takes jobs again"
    print(f"adopted {adopted_after:.1f} s after the start of the worker's process")
    assert adopted_after < 3 * ADOPTED_SECONDS
