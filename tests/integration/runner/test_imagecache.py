"""The same files of the same owner are built once, nobody gets another's image, and the budget is kept."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dccf.errors import AttemptFailed, EngineUnavailable
from dccf.models import Reason, Stream
from dccf.runner import imagecache
from dccf.runner.docker_runner import DockerRunner
from dccf.runner.engine import Engine
from tests.integration.runner.test_docker_runner import Builder, runner_with
from tests.runner_kit import Play

pytestmark = pytest.mark.docker

AGAIN = b"built the same files before"
DOCKERFILE = "FROM busybox\nCOPY a /a\nRUN head -c 32 /dev/urandom | sha256sum > /stamp\nCMD cat /stamp /a"

MakePlay = Callable[..., Play]


@pytest.fixture(params=["buildkit", "classic"])
def builder(request: pytest.FixtureRequest) -> Builder:
    """Each builder in turn."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def play(docker_url: str, tmp_path: Path, builder: Builder) -> Iterator[MakePlay]:
    """Makes attempts with an owner; in the end the cache is emptied, and nothing at all may be left."""
    engine = Engine(docker_url)
    before = set(engine.client.images(all=True, quiet=True))
    made: list[Play] = []

    def make(owner: str | None = "ann", settings: dict[str, object] | None = None, **spec: object) -> Play:
        runner = runner_with(docker_url, builder, state_folder=tmp_path, **(settings or {}))
        made.append(Play(runner, **spec))
        made[-1].owner = owner
        return made[-1]

    yield make
    for each in made:
        each.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(imagecache, "IN_USE_SECONDS", 0)
        cache_of(made[0]).trim(0)
    # Less than before is right: what a test of another module left without a name, tidying up takes as well.
    assert set(engine.client.images(all=True, quiet=True)) <= before


def cache_of(play: Play) -> imagecache.ImageCache:
    """The cache of an attempt's runner."""
    assert isinstance(play.runner, DockerRunner)
    return play.runner._images


def stamp(play: Play, text: bytes = b"x", dockerfile: str = DOCKERFILE) -> bytes:
    """Build and run; give what only one build can have made."""
    assert play.build_and_run(dockerfile, {"a": text}).exit_code == 0
    play.close()
    return play.sink.data(Stream.STDOUT)


def test_the_same_files_of_the_same_owner_are_built_once(play: MakePlay) -> None:
    first, second = play(), play()

    assert stamp(first) == stamp(second)
    assert AGAIN not in first.sink.data(Stream.BUILD_STDOUT)
    assert AGAIN in second.sink.data(Stream.BUILD_STDOUT)


def test_whatever_differs_is_built_anew(play: MakePlay) -> None:
    seen = {
        stamp(play()),
        stamp(play(owner="bob")),
        stamp(play(owner=None)),
        stamp(play(reuse_image=False)),
        stamp(play(settings={"image_cache_bytes": 0})),
        stamp(play(), b"y"),
        stamp(play(), dockerfile=DOCKERFILE + " "),
    }

    assert len(seen) == 7


def test_files_that_the_build_does_not_see_make_no_difference(play: MakePlay) -> None:
    first, second = play(), play()

    for attempt, text in ((first, b"1"), (second, b"2")):
        attempt.build_and_run(DOCKERFILE, {"a": b"x", ".dockerignore": b"notes\n", "notes": text})

    assert first.sink.data(Stream.STDOUT) == second.sink.data(Stream.STDOUT)


def test_a_build_that_failed_is_tried_again(play: MakePlay) -> None:
    for attempt in (play(), play()):
        with pytest.raises(AttemptFailed) as failed:
            attempt.build("FROM busybox\nRUN false\nCMD true")
        assert failed.value.reason == Reason.BUILD_FAILED
        attempt.close()


def test_what_is_over_the_budget_goes_longest_unused_first(
    play: MakePlay, docker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imagecache, "IN_USE_SECONDS", 0)
    big = "FROM busybox\nCOPY a /a\nRUN head -c 8m /dev/urandom > /big; sha256sum /big > /stamp\nCMD cat /stamp"
    old, young = stamp(play(), b"old", big), stamp(play(), b"young", big)
    assert stamp(play(), b"old", big) == old

    assert cache_of(play()).trim(12 << 20) == 1

    assert stamp(play(), b"old", big) == old
    assert stamp(play(), b"young", big) != young


def test_what_a_container_uses_and_what_was_just_asked_for_stays(
    play: MakePlay, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = play()
    image = attempt.build(DOCKERFILE, {"a": b"x"})
    assert cache_of(attempt).trim(0) == 0
    attempt.run(image)
    attempt.close()
    user = play()
    user.run(user.build(DOCKERFILE, {"a": b"x"}))
    monkeypatch.setattr(imagecache, "IN_USE_SECONDS", 0)

    assert cache_of(attempt).trim(0) == 0
    user.close()
    assert cache_of(attempt).trim(0) == 1


def test_what_was_not_used_for_long_goes(play: MakePlay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagecache, "IN_USE_SECONDS", 0)
    attempt = play(settings={"image_cache_seconds": 0.001})
    first = stamp(attempt)

    attempt.runner.tidy()

    assert stamp(play()) != first


def test_two_processes_do_not_build_the_same_at_once(play: MakePlay) -> None:
    attempts = [play() for _ in range(3)]
    fork = multiprocessing.get_context("fork")
    answers = fork.SimpleQueue()

    def build(attempt: Play) -> None:
        answers.put(stamp(attempt))

    processes = [fork.Process(target=build, args=(attempt,)) for attempt in attempts]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)

    assert len({answers.get() for _ in attempts}) == 1


def test_an_image_that_is_kept_is_no_leftover_of_its_attempt(play: MakePlay) -> None:
    attempt = play()
    stamp(attempt)

    assert attempt.attempt not in attempt.runner.attempts(attempt.attempt.worker)


def test_nobody_can_name_a_kept_image(play: MakePlay) -> None:
    attempt = play()

    with pytest.raises(AttemptFailed, match="belongs to DCCF") as failed:
        attempt.build("FROM dccf-job:cache-0\nCMD true")

    assert failed.value.reason == Reason.REJECTED


def test_a_disk_that_is_nearly_full_costs_the_kept_images_and_then_takes_no_jobs(
    play: MakePlay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imagecache, "IN_USE_SECONDS", 0)
    first = stamp(play())

    with pytest.raises(EngineUnavailable, match="DCCF_DISK_FREE_BYTES says: make room"):
        play(settings={"disk_free_bytes": 1 << 60}).runner.check()

    assert stamp(play()) != first
