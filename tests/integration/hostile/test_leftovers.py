"""A worker that is killed in any phase leaves what another process removes completely."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from dccf.models import Stream
from dccf.runner import spec as translation
from dccf.runner.docker_runner import DockerRunner
from dccf.runner.engine import Engine
from tests.integration.hostile.conftest import MakePlay, objects_of
from tests.runner_kit import Play, runner_settings

pytestmark = pytest.mark.docker

DOCKERFILE = (
    "FROM busybox\nVOLUME /data\nRUN touch /layer; sleep 0.2\n"
    "CMD echo up; head -c 1m /dev/zero > /output/x; sleep 0.2"
)


def killed_after(seconds: float, call: Callable[[], object]) -> None:
    """Make a call in a forked process, and kill that process after so many seconds."""
    pid = os.fork()
    if pid == 0:
        call()
        os._exit(0)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


# Each delay hits another phase: upload, build, create, start, run, collect.
@pytest.mark.parametrize("seconds", [0.05, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1.1, 1.4])
def test_a_killed_process_leaves_nothing_that_remove_does_not_find(
    play: MakePlay, docker_url: str, seconds: float
) -> None:
    attempt = play()
    attempt.runner.check()  # what a killed look at the daemon leaves goes later, when the keeper tidies up

    def whole_attempt() -> None:
        attempt.build_and_run(DOCKERFILE)
        attempt.collect()

    killed_after(seconds, whole_attempt)

    other = DockerRunner(runner_settings(docker_url=docker_url))
    for found in other.attempts("test-worker"):
        assert attempt.attempt == found
    other.remove(attempt.attempt)
    assert other.attempts("test-worker") == []


def test_20_attempts_of_all_kinds_leave_nothing(play: MakePlay, engine: Engine) -> None:
    before = objects_of(engine)
    endings = ["true", "exit 3", "exec tail /dev/zero", "sleep 60", "kill -9 1; sleep 60"]

    for number in range(20):
        attempt: Play = play(memory="32m", timeout_seconds=0.5)
        attempt.build_and_run(f"FROM busybox\nVOLUME /d{number}\nRUN touch /{number}\nCMD {endings[number % 5]}")
        attempt.close()

    assert before == objects_of(engine)
    assert not attempt.sink.data(Stream.STDOUT)


def test_an_image_without_a_container_is_found_by_the_sweep(play: MakePlay) -> None:
    attempt = play()
    attempt.build("FROM busybox\nCMD true")
    worker = attempt.attempt.worker

    assert attempt.attempt in attempt.runner.attempts(worker)
    attempt.runner.remove(attempt.attempt)
    assert attempt.attempt not in attempt.runner.attempts(worker)


def test_a_helper_container_that_was_left_is_found_by_the_sweep(play: MakePlay, engine: Engine) -> None:
    attempt = play()
    attempt.build("FROM busybox\nCMD true")
    client = engine.client
    client.create_container(
        "busybox", name=translation.helper_name_of(attempt.attempt), labels=translation.labels_of(attempt.attempt)
    )
    client.remove_image(translation.tag_of(attempt.attempt))

    assert attempt.runner.attempts(attempt.attempt.worker) == [attempt.attempt]
    attempt.runner.remove(attempt.attempt)
    assert attempt.runner.attempts(attempt.attempt.worker) == []
