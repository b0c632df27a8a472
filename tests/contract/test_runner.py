"""What every runner promises (:mod:`dccf.runner.base`), held against the fake and against Docker.

The jobs are written twice: as a Dockerfile for Docker, and as the fake's script in the environment. The
fake reads the script only, Docker the Dockerfile only.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from dccf.errors import AttemptFailed, AttemptStopped, EngineUnavailable
from dccf.models import Reason, StopCause, Stream
from dccf.runner.base import Runner
from dccf.runner.docker_runner import DockerRunner
from dccf.runner.fake import FakeRunner
from tests.runner_kit import Play, context_of, runner_settings

OUTPUT_LIMIT = 6 << 20
SLEEPY = {"DCCF_FAKE_SLEEP_SECONDS": "60"}

MakePlay = Callable[..., Play]


@pytest.fixture(params=["fake", pytest.param("docker", marks=pytest.mark.docker)])
def runner(request: pytest.FixtureRequest) -> Runner:
    """Each runner in turn."""
    if request.param == "fake":
        return FakeRunner(runner_settings(output_limit_bytes=OUTPUT_LIMIT))
    url = request.getfixturevalue("docker_url")
    return DockerRunner(runner_settings(docker_url=url, output_limit_bytes=OUTPUT_LIMIT))


@pytest.fixture
def play(runner: Runner) -> Iterator[MakePlay]:
    """Makes attempts, and removes what they made."""
    made: list[Play] = []

    def make(**spec: object) -> Play:
        if isinstance(runner, DockerRunner):
            # A script of megabytes is no environment that a real program can be started with.
            spec.pop("env", None)
        made.append(Play(runner, **spec))
        return made[-1]

    yield make
    for each in made:
        each.close()
        assert [left for left in runner.attempts("test-worker") if left == each.attempt] == []


def in_thread(call: Callable[[], object]) -> tuple[threading.Thread, list[BaseException]]:
    """Start a call in a thread, and remember what it raises."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except (AttemptStopped, AttemptFailed, EngineUnavailable) as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, errors


def test_check_names_the_engine(runner: Runner) -> None:
    info = runner.check()

    assert info.engine in {"fake", "docker"}
    assert info.version


def test_a_job_that_succeeds_gives_exit_logs_and_files(play: MakePlay) -> None:
    attempt = play(
        env={"DCCF_FAKE_STDOUT": "out\n", "DCCF_FAKE_STDERR": "err\n", "DCCF_FAKE_OUTPUT": "a.txt=one\nd/b.txt=two"}
    )

    ended = attempt.build_and_run(
        "FROM busybox\nCMD echo out; echo err >&2; cd /output; mkdir d; printf one > a.txt; printf two > d/b.txt"
    )

    assert (ended.exit_code, ended.reason) == (0, None)
    assert ended.started_at <= ended.finished_at
    assert ended.started_at.tzinfo is not None
    assert attempt.sink.data(Stream.STDOUT) == b"out\n"
    assert attempt.sink.data(Stream.STDERR) == b"err\n"
    assert attempt.collect() == {"a.txt": b"one", "d/b.txt": b"two"}


def test_an_exit_code_other_than_0_is_said(play: MakePlay) -> None:
    attempt = play(env={"DCCF_FAKE_EXIT_CODE": "3", "DCCF_FAKE_OUTPUT": "log=x"})

    ended = attempt.build_and_run("FROM busybox\nCMD printf x > /output/log; exit 3")

    assert (ended.exit_code, ended.reason) == (3, Reason.EXIT_NONZERO)
    assert "3" in ended.message
    assert attempt.collect() == {"log": b"x"}


def test_the_build_prints_and_a_failing_one_says_why(play: MakePlay) -> None:
    attempt = play(env={"DCCF_FAKE_BUILD_ERROR": "line 3: RUN false: exit code 1"})

    with pytest.raises(AttemptFailed) as failed:
        attempt.build("FROM busybox\nRUN echo hello\nRUN false\nCMD true")

    assert (failed.value.reason, failed.value.message) == (Reason.BUILD_FAILED, "line 3: RUN false: exit code 1")
    assert attempt.sink.data(Stream.BUILD_STDOUT)


def test_a_context_without_a_dockerfile_fails_the_build(play: MakePlay) -> None:
    attempt = play()

    with pytest.raises(AttemptFailed, match="Dockerfile") as failed:
        attempt.build(None, {"a.txt": b"x"})

    assert failed.value.reason == Reason.BUILD_FAILED


def test_a_container_that_runs_too_long_is_killed(play: MakePlay) -> None:
    attempt = play(env={**SLEEPY, "DCCF_FAKE_OUTPUT": "early=x"}, timeout_seconds=0.5)

    ended = attempt.build_and_run("FROM busybox\nCMD printf x > /output/early; sleep 60")

    assert ended.reason is Reason.TIMED_OUT
    assert attempt.collect() == {"early": b"x"}


def test_a_build_that_takes_too_long_is_ended(play: MakePlay) -> None:
    attempt = play(env={"DCCF_FAKE_BUILD_SECONDS": "60"}, build_timeout_seconds=0.5)

    with pytest.raises(AttemptFailed) as failed:
        attempt.build("FROM busybox\nRUN sleep 60")

    assert failed.value.reason == Reason.BUILD_TIMED_OUT


def test_memory_that_runs_out_is_told_from_other_ends(play: MakePlay) -> None:
    attempt = play(env={"DCCF_FAKE_OOM": "1"}, memory="32m")

    ended = attempt.build_and_run("FROM busybox\nCMD exec tail /dev/zero")

    assert (ended.exit_code, ended.reason) == (137, Reason.OUT_OF_MEMORY)


@pytest.mark.parametrize("cause", list(StopCause))
def test_a_running_container_is_stopped_within_a_second(play: MakePlay, cause: StopCause) -> None:
    attempt = play(env={**SLEEPY, "DCCF_FAKE_STDOUT": "up\n"})
    image = attempt.build("FROM busybox\nCMD echo up; sleep 60")

    thread, errors = in_thread(lambda: attempt.run(image))
    attempt.sink.wait_for(Stream.STDOUT, b"up\n")
    asked = time.monotonic()
    attempt.stop.set(cause)
    thread.join(30)

    assert time.monotonic() - asked < 3
    assert [cause] == [error.cause for error in errors if isinstance(error, AttemptStopped)]


def test_a_build_is_stopped_within_a_second(play: MakePlay) -> None:
    attempt = play(env={"DCCF_FAKE_BUILD_SECONDS": "60"})

    thread, errors = in_thread(lambda: attempt.build("FROM busybox\nRUN echo up; sleep 60"))
    attempt.sink.wait_for(Stream.BUILD_STDOUT, b"u")
    asked = time.monotonic()
    attempt.stop.set(StopCause.CANCEL)
    thread.join(30)

    assert time.monotonic() - asked < 3
    assert [error.cause for error in errors if isinstance(error, AttemptStopped)] == [StopCause.CANCEL]


def test_what_exceeds_the_output_limit_fails_after_what_fits(play: MakePlay) -> None:
    big = "y" * (OUTPUT_LIMIT - 1000)
    attempt = play(env={"DCCF_FAKE_OUTPUT": f"a=xxx\nb={big}\nc={big}"})
    attempt.build_and_run(
        f"FROM busybox\nCMD cd /output; printf xxx > a; head -c {len(big)} /dev/zero > b; cp b c; exit 0"
    )

    collected: list[str] = []

    def collect() -> None:
        for file in attempt.runner.collect(attempt.attempt, attempt.spec):
            assert file.size == sum(len(chunk) for chunk in file.chunks)
            collected.append(file.path)

    with pytest.raises(AttemptFailed) as failed:
        collect()

    assert failed.value.reason == Reason.OUTPUT_LIMIT_EXCEEDED
    assert "a" in collected
    assert len(collected) == 2


def test_files_need_not_be_read_to_their_end(play: MakePlay) -> None:
    attempt = play(env={"DCCF_FAKE_OUTPUT": "a=one\nb=two"})
    attempt.build_and_run("FROM busybox\nCMD printf one > /output/a; printf two > /output/b")

    files = attempt.runner.collect(attempt.attempt, attempt.spec)

    assert sorted(file.path for file in files) == ["a", "b"]


def test_attempts_lists_what_has_a_container_until_it_is_removed(play: MakePlay, runner: Runner) -> None:
    attempt = play()
    attempt.build_and_run("FROM busybox\nCMD true")

    assert attempt.attempt in runner.attempts("test-worker")
    assert attempt.attempt not in runner.attempts("other-worker")

    attempt.close()
    attempt.close()

    assert attempt.attempt not in runner.attempts("test-worker")


def test_an_attempt_that_never_began_can_be_removed(play: MakePlay) -> None:
    play().close()


def test_the_context_may_be_an_iterator(play: MakePlay) -> None:
    attempt = play()

    image = attempt.build_context(iter(context_of("FROM busybox\nCOPY d /d\nCMD cat /d/x", {"d/x": b"x"})))

    assert image
