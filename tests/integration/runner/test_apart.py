"""Builds share no step and no layer, whatever else is built at the same time or was built before."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from dccf.local.daemon import PrivateDaemon
from dccf.models import Stream
from dccf.runner.docker_runner import DockerRunner
from tests.runner_kit import Play, runner_settings

pytestmark = pytest.mark.docker

FILES = {"a": b"the same\n"}


def layers(daemon: PrivateDaemon) -> set[str]:
    """All layers on the daemon's disk, known to it or not; with userns-remap they lie one folder deeper."""
    data = daemon.folder / "data"
    return {path.name for folder in (data, *data.iterdir()) for path in (folder / "overlay2").glob("*")}


@pytest.fixture
def plays(docker_daemon: PrivateDaemon) -> Iterator[tuple[Play, Play, Play]]:
    """Three attempts without an owner, so that none takes the image of another; no layer of them may be left."""
    runner = DockerRunner(runner_settings(docker_url=docker_daemon.docker_url))
    assert runner.check().builder == "buildkit"
    runner.tidy()
    before = layers(docker_daemon)
    attempts = Play(runner), Play(runner), Play(runner)
    yield attempts
    for attempt in attempts:
        attempt.close()
    assert layers(docker_daemon) <= before


@pytest.mark.parametrize("first", ["RUN true", "COPY a /copied", "WORKDIR /work"])
def test_builds_at_the_same_time_share_no_step_and_leave_no_layer(plays: tuple[Play, Play, Play], first: str) -> None:
    dockerfile = f"FROM busybox\n{first}\nRUN head -c 8 /dev/urandom | md5sum > /random\nCMD cat /random"
    with ThreadPoolExecutor(len(plays)) as threads:
        built = list(threads.map(lambda play: play.build(dockerfile, FILES), plays))

    assert [play.run(image).exit_code for play, image in zip(plays, built, strict=True)] == [0, 0, 0]

    assert len({play.sink.data(Stream.STDOUT) for play in plays}) == len(plays)


def test_images_with_the_same_files_leave_no_layer(plays: tuple[Play, Play, Play]) -> None:
    for play in plays:
        play.build("FROM busybox\nCOPY a /copied\nCMD true", FILES)


def test_what_sets_a_build_apart_is_seen_by_nobody(plays: tuple[Play, Play, Play]) -> None:
    play, *_ = plays
    dockerfile = (
        "FROM busybox AS one\nRUN ls -a /dev >/seen\nFROM busybox\nCOPY --from=one /seen /\n"
        "CMD cat /seen && ls -a /dev"
    )

    assert play.build_and_run(dockerfile).exit_code == 0

    assert b"null" in play.sink.data(Stream.STDOUT)
    assert b"dccf" not in play.sink.data(Stream.STDOUT)
    said = play.sink.data(Stream.BUILD_STDOUT).decode()
    assert re.findall(r"\[(\S+ 2/.*)", said) == [
        "one 2/2] RUN ls -a /dev >/seen",
        "stage-1 2/2] COPY --from=one /seen /",
    ]
    assert "dccf" not in said
