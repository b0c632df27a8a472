"""Layers are kept for the next builds of the same owner where that is asked for, and for nobody else's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dccf.local.daemon import PrivateDaemon
from dccf.models import Stream
from dccf.runner.docker_runner import DockerRunner
from dccf.runner.engine import Engine
from dccf.runner.layercache import LayerCache
from tests.integration.runner.test_apart import layers
from tests.runner_kit import Play, runner_settings

pytestmark = pytest.mark.docker

BUDGET_BYTES = 1 << 30
STAMP = "RUN head -c 32 /dev/urandom | sha256sum > /stamp\n"
DOCKERFILE = f"FROM busybox\n{STAMP}COPY a /a\nCMD cat /stamp"

MakePlay = Callable[..., Play]


@pytest.fixture
def play(docker_daemon: PrivateDaemon, tmp_path: Path) -> Iterator[MakePlay]:
    """Makes attempts on a worker that keeps layers, but no images; when all is dropped, no layer may be left."""
    settings = {"docker_url": docker_daemon.docker_url, "state_folder": tmp_path, "image_cache_bytes": 0}
    plain = DockerRunner(runner_settings(**settings))
    plain.tidy()
    before, made = layers(docker_daemon), []

    def make(owner: str | None = "ann", budget_bytes: int = BUDGET_BYTES, **spec: object) -> Play:
        made.append(Play(DockerRunner(runner_settings(layer_cache_bytes=budget_bytes, **settings)), **spec))
        made[-1].owner = owner
        return made[-1]

    yield make
    for each in made:
        each.close()
    plain.tidy()
    assert not Engine(docker_daemon.docker_url).client.df()["BuildCache"]
    assert layers(docker_daemon) <= before


def stamp(play: Play, text: bytes, dockerfile: str = DOCKERFILE) -> bytes:
    """Build and run; give what only one execution of the step can have made."""
    assert play.build_and_run(dockerfile, {"a": text}).exit_code == 0
    play.close()
    return play.sink.data(Stream.STDOUT)


def test_a_step_is_executed_once_for_the_builds_of_one_owner(play: MakePlay) -> None:
    changed = DOCKERFILE.replace("CMD", "RUN true\nCMD")

    assert stamp(play(), b"one") == stamp(play(), b"two") == stamp(play(), b"two", changed)


def test_nobody_gets_a_layer_of_another_owner(play: MakePlay, tmp_path: Path) -> None:
    anns = stamp(play("ann"), b"1")
    engine = Engine(play().runner._settings.docker_url)  # type: ignore[attr-defined]
    first = LayerCache(engine, tmp_path / "builds", BUDGET_BYTES).step_of("ann").line
    forged = DOCKERFILE.replace("FROM busybox\n", f"FROM busybox\n{first}\n")

    others = [
        stamp(play("bob"), b"1"),
        stamp(play("eve"), b"1", forged),
        stamp(play(None), b"1"),
        stamp(play("ann", reuse_image=False), b"1"),
        stamp(play("ann", budget_bytes=0), b"1"),
    ]

    assert len({anns, *others}) == 6


def test_builds_of_one_owner_take_turns_and_leave_no_layer(play: MakePlay) -> None:
    plays = [play() for _ in range(3)]
    with ThreadPoolExecutor(len(plays)) as threads:
        stamps = set(threads.map(stamp, plays, (b"1", b"2", b"3")))

    assert len(stamps) == 1


def test_what_is_over_the_budget_is_dropped_and_made_anew(play: MakePlay) -> None:
    first = stamp(play(), b"1")
    play(budget_bytes=BUDGET_BYTES).runner.tidy()
    assert stamp(play(), b"1") == first

    play(budget_bytes=1).runner.tidy()

    assert stamp(play(), b"1") != first


def test_owners_share_no_step_that_a_base_image_triggers(play: MakePlay, docker_daemon: PrivateDaemon) -> None:
    client = Engine(docker_daemon.docker_url).client
    container = client.create_container("busybox", "true")["Id"]
    client.commit(container, repository="triggers", changes=[f"ONBUILD {STAMP.strip()}"])
    client.remove_container(container)
    try:
        stamps = {stamp(play(owner), b"1", "FROM triggers\nCMD cat /stamp") for owner in ("ann", "bob")}
    finally:
        client.remove_image("triggers")

    assert len(stamps) == 2
