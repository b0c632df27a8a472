"""A container goes on in another process: its log, its end, its limits and its output are those that it had."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dccf.errors import AttemptStopped, EngineUnavailable
from dccf.models import Reason, StopCause, Stream
from dccf.runner.base import Exit
from dccf.runner.docker_runner import DockerRunner
from dccf.runner.engine import Engine
from dccf.runner.spec import name_of
from tests.fixtures_docker import start_daemon
from tests.processes import wait_for
from tests.runner_kit import Play, Sink, Stop, runner_settings

pytestmark = pytest.mark.docker

COUNTING = (
    "FROM busybox\nCMD i=0; while [ $i -lt 60 ]; do i=$((i+1)); echo line $i; echo err $i >&2; usleep 20000; done; "
    "echo done > /output/done; exit 7"
)
LINES = b"".join(b"line %d\n" % number for number in range(1, 61))


@pytest.fixture
def play(docker_url: str) -> Iterator[Play]:
    attempt = Play(DockerRunner(runner_settings(docker_url=docker_url)))
    yield attempt
    attempt.close()


def orphan(play: Play, dockerfile: str, until: bytes) -> None:
    """Start a container and leave it, as a pool process does whose main process has died."""
    image = play.build(dockerfile)
    stopped: list[object] = []

    def run() -> None:
        try:
            play.run(image)
        except AttemptStopped as error:
            stopped.append(error.cause)

    thread = threading.Thread(target=run)
    thread.start()
    play.sink.wait_for(Stream.STDOUT, until)
    play.stop.set(StopCause.ORPHANED)
    thread.join()
    assert stopped == [StopCause.ORPHANED]


def resume(play: Play, runner: DockerRunner | None = None, stop: Stop | None = None) -> tuple[Exit, Sink]:
    """Go on with it in a runner of its own, as another process has."""
    other = runner or DockerRunner(play.runner._settings)  # type: ignore[attr-defined]
    assert other.is_resumable(play.attempt)
    sink = Sink()
    return other.resume(play.attempt, play.spec, sink, stop or Stop()), sink


def test_a_container_that_runs_is_watched_to_its_end(play: Play) -> None:
    orphan(play, COUNTING, b"line 5\n")

    ended, sink = resume(play)

    assert (ended.exit_code, ended.reason, ended.warnings) == (7, Reason.EXIT_NONZERO, ())
    assert sink.data(Stream.STDOUT) == LINES
    assert sink.data(Stream.STDERR) == LINES.replace(b"line", b"err")
    assert play.collect() == {"done": b"done\n"}


def test_a_container_that_ended_while_nobody_watched_gives_the_same(play: Play) -> None:
    orphan(play, COUNTING, b"line 5\n")
    engine = Engine(play.runner._settings.docker_url)  # type: ignore[attr-defined]
    engine.wait(name_of(play.attempt))

    ended, sink = resume(play)

    assert (ended.exit_code, ended.reason) == (7, Reason.EXIT_NONZERO)
    assert sink.data(Stream.STDOUT) == LINES
    assert play.collect() == {"done": b"done\n"}


@pytest.mark.parametrize(("before", "after"), [("plain", "loop"), ("archive", "loop"), ("loop", "plain")])
def test_output_is_read_where_it_was_written_whatever_store_is_chosen_now(
    docker_url: str, before: str, after: str
) -> None:
    first, second = (
        DockerRunner(runner_settings(docker_url=docker_url, output_store=kind)) for kind in (before, after)
    )
    play = Play(first)
    try:
        orphan(play, COUNTING, b"line 5\n")
        resume(play, second)
        play.runner = second
        assert play.collect() == {"done": b"done\n"}
    finally:
        play.close()


def test_a_secret_is_masked_although_its_file_has_changed(docker_url: str, tmp_path: Path) -> None:
    secret = tmp_path / "ada" / "token"
    secret.parent.mkdir()
    secret.write_text("correct-horse-battery")
    settings = runner_settings(docker_url=docker_url, secrets_folder=tmp_path, image_cache_bytes=0)
    play = Play(DockerRunner(settings), secrets={"TOKEN": "token"})
    play.owner = "ada"
    try:
        orphan(play, 'FROM busybox\nCMD echo "one $TOKEN"; sleep 1; echo "two $TOKEN"', b"one ***\n")
        secret.unlink()
        _, sink = resume(play)
    finally:
        play.close()

    assert sink.data(Stream.STDOUT) == b"one ***\ntwo ***\n"


def test_the_last_lines_are_there_however_the_end_falls(docker_url: str) -> None:
    runner = DockerRunner(runner_settings(docker_url=docker_url))
    for pause in ("0", "1000", "5000"):
        play = Play(runner)
        try:
            orphan(play, f"FROM busybox\nCMD echo start; sleep 0.5; usleep {pause}; seq 3000; echo last", b"start\n")
            _, sink = resume(play)
            expected = b"start\n" + b"".join(b"%d\n" % number for number in range(1, 3001)) + b"last\n"
            assert sink.data(Stream.STDOUT) == expected
        finally:
            play.close()


def test_the_time_limit_counts_from_the_containers_start(docker_url: str) -> None:
    play = Play(DockerRunner(runner_settings(docker_url=docker_url)), timeout_seconds=2)
    try:
        orphan(play, "FROM busybox\nCMD echo on; sleep 60", b"on\n")
        ended, _ = resume(play)
    finally:
        play.close()

    assert ended.reason is Reason.TIMED_OUT
    assert (ended.finished_at - ended.started_at).total_seconds() >= 2


def test_a_container_that_ran_too_long_while_nobody_watched_is_timed_out(docker_url: str) -> None:
    play = Play(DockerRunner(runner_settings(docker_url=docker_url)), timeout_seconds=60)
    try:
        orphan(play, "FROM busybox\nCMD echo on; sleep 1", b"on\n")
        Engine(docker_url).wait(name_of(play.attempt))
        play.spec = play.spec.model_copy(update={"timeout_seconds": 0.5})
        ended, _ = resume(play)
    finally:
        play.close()

    assert ended.reason is Reason.TIMED_OUT


def test_a_cancel_reaches_a_container_that_was_adopted(play: Play) -> None:
    orphan(play, "FROM busybox\nCMD echo on; sleep 60", b"on\n")

    with pytest.raises(AttemptStopped) as stopped:
        resume(play, stop=Stop(StopCause.CANCEL))

    assert stopped.value.cause == StopCause.CANCEL
    assert not Engine(play.runner._settings.docker_url).state(name_of(play.attempt)).is_running  # type: ignore[attr-defined]


def test_without_a_started_container_there_is_nothing_to_go_on_with(play: Play) -> None:
    runner = play.runner
    assert not runner.is_resumable(play.attempt)

    image = play.build("FROM busybox\nCMD true")
    engine = Engine(runner._settings.docker_url)  # type: ignore[attr-defined]
    engine.create(name_of(play.attempt), {"Image": image, "HostConfig": {"NetworkMode": "none"}})

    assert not runner.is_resumable(play.attempt)


def test_a_log_of_which_the_daemon_dropped_the_beginning_is_given_from_what_is_left(play: Play) -> None:
    script = "echo start; sleep 1; awk 'BEGIN { while (i++ < 30000) printf \"%01000d\\n\", i }'"
    orphan(play, f"FROM busybox\nCMD {script}", b"start\n")
    Engine(play.runner._settings.docker_url).wait(name_of(play.attempt))  # type: ignore[attr-defined]

    ended, sink = resume(play)

    whole = b"start\n" + b"".join(b"%01000d\n" % number for number in range(1, 30_001))
    assert ended.exit_code == 0
    assert whole.endswith(sink.data(Stream.STDOUT))
    assert 5_000_000 < len(sink.data(Stream.STDOUT)) < len(whole)


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_container_that_died_with_its_daemon_is_the_daemons_fault(how: str) -> None:
    folder = Path(tempfile.mkdtemp(prefix="dccf-resume-"))
    daemon = start_daemon(folder)
    try:
        settings = runner_settings(docker_url=daemon.docker_url)
        died, ended = Play(DockerRunner(settings)), Play(DockerRunner(settings))
        orphan(died, "FROM busybox\nCMD echo on; exec sleep 60", b"on\n")
        orphan(ended, "FROM busybox\nCMD echo on; sleep 0.5; exit 3", b"on\n")
        Engine(daemon.docker_url).wait(name_of(ended.attempt))
        getattr(daemon, how)()
        daemon.start()

        with pytest.raises(EngineUnavailable, match="started again"):
            resume(died)
        after, _ = resume(ended)
        assert after.exit_code == 3
        for play in (died, ended):
            play.close()
    finally:
        daemon.stop()
        shutil.rmtree(folder)


def test_an_exit_code_of_255_that_the_daemon_has_seen_is_the_jobs_own(play: Play) -> None:
    orphan(play, "FROM busybox\nCMD echo on; sleep 0.3; exit 255", b"on\n")
    engine = Engine(play.runner._settings.docker_url)  # type: ignore[attr-defined]
    wait_for("its end", lambda: not engine.state(name_of(play.attempt)).is_running)

    ended, _ = resume(play)

    assert (ended.exit_code, ended.reason) == (255, Reason.EXIT_NONZERO)
    assert dataclasses.asdict(ended)["warnings"] == ()
