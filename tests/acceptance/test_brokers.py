"""The stack's brokers: Kafka is started again when it dies, and the file broker needs nothing."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.acceptance.conftest import Stack, running_stack
from tests.processes import wait_for

pytestmark = [pytest.mark.stack, pytest.mark.docker, pytest.mark.postgres]

HELLO = Path(__file__).parents[2] / "examples" / "hello"


def kafka_of(stack: Stack) -> int | None:
    """The process id of the stack's broker."""
    words = {pid: Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") for pid in stack.processes()}
    return next((pid for pid, arguments in words.items() if b"kafka.Kafka" in arguments), None)


def test_a_killed_kafka_comes_back_and_jobs_go_on(stack: Stack) -> None:
    if stack.broker != "kafka":
        pytest.skip("this stack is on files")
    first = wait_for("Kafka", lambda: kafka_of(stack))
    os.kill(first, signal.SIGKILL)

    with stack.client() as client:
        handle = client.submit(HELLO)
        wait_for("another Kafka", lambda: kafka_of(stack) not in {None, first})
        handle.wait(120)
        handle.raise_for_status()


def test_the_main_job_runs_on_files_too(tmp_path: Path) -> None:
    with running_stack("file") as stack:
        assert "files in the state folder (--broker file asks for it)" in stack.process.log_text()
        done = stack.dccf("run", str(HELLO), "-o", str(tmp_path))
        assert (done.returncode, (tmp_path / "output.txt").read_text().strip()) == (0, "Test success!"), done.stderr
