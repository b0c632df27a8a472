"""Dockerfiles that attack the daemon, the network and other jobs while they are built."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dccf.errors import AttemptFailed
from dccf.models import Reason, Stream
from dccf.runner.build import Build, BuildKitProgress
from dccf.runner.context import tar_stream
from dccf.runner.dockerfile import Grammar, parse
from dccf.runner.engine import Engine
from tests.integration.hostile.conftest import MakePlay
from tests.runner_kit import Sink, Stop

pytestmark = pytest.mark.docker


def rejected(play: MakePlay, dockerfile: str) -> str:
    """Build a Dockerfile that is not allowed; give the sentence about it."""
    attempt = play()
    with pytest.raises(AttemptFailed) as failed:
        attempt.build(dockerfile)
    assert failed.value.reason == Reason.REJECTED
    assert attempt.sink.data(Stream.BUILD_STDOUT) == b""
    return failed.value.message


def build_unchecked(engine: Engine, dockerfile: str) -> None:
    """Build without the policy, to see that an attack is real."""
    context = tar_stream([("Dockerfile", dockerfile.encode())], [], Stop())
    progress = BuildKitProgress(parse(dockerfile, Grammar()), Sink())
    image = Build(engine, {"version": "2", "networkmode": "none", "nocache": "1"}, context, progress).run(Stop(), 60)
    engine.remove_image(image)
    engine.prune_build_cache()


def test_add_cannot_reach_what_only_the_daemon_reaches(
    play: MakePlay, engine: Engine, internal_server: tuple[int, Path]
) -> None:
    port, log = internal_server
    dockerfile = f"FROM busybox\nADD http://127.0.0.1:{port}/secret-path /x\nCMD true"
    (log.parent / "secret-path").write_text("secret")

    sentence = rejected(play, dockerfile)

    assert "line 2" in sentence
    assert log.read_text() == ""

    build_unchecked(engine, dockerfile)

    assert "secret-path" in log.read_text()


@pytest.mark.parametrize(
    "line",
    [
        'ADD ["http://127.0.0.1/x", "/x"]',
        'ADD "http://127.0.0.1/x" /x',
        "ADD ht\\tp://127.0.0.1/x /x",
        "ADD a \\\n  http://127.0.0.1/x /x",
        "add --chown=1:1 http://127.0.0.1/x /x",
        "ADD git@127.0.0.1:x/y.git /x",
        "ADD github.com/docker/cli /x",
        "ARG U=http://127.0.0.1/x\nADD $U /x",
        "ADD ${U} /x",
        "ONBUILD ADD http://127.0.0.1/x /x",
    ],
)
def test_no_way_of_writing_add_fetches_anything(play: MakePlay, line: str) -> None:
    assert "ADD" in rejected(play, f"FROM busybox\n{line}\nCMD true")


@pytest.mark.parametrize(
    "dockerfile",
    [
        "FROM busybox\nRUN echo \\\\\nADD http://127.0.0.1/x /x\nCMD true",
        "# escape=`\nFROM busybox\nRUN echo \\\nADD http://127.0.0.1/x /x\nCMD true",
        "FROM busybox\nRUN cat <<CMD\nADD http://127.0.0.1/x /x\nCMD",
    ],
)
def test_versions_that_read_a_dockerfile_differently_make_no_gap(play: MakePlay, dockerfile: str) -> None:
    assert "ADD may not fetch" in rejected(play, dockerfile)


def test_a_base_image_cannot_bring_a_forbidden_onbuild(
    play: MakePlay, engine: Engine, internal_server: tuple[int, Path]
) -> None:
    port, log = internal_server
    packed = io.BytesIO()
    tarfile.open(fileobj=packed, mode="w").close()
    changes = [f"ONBUILD ADD http://127.0.0.1:{port}/x /x"]
    engine.client.import_image_from_data(packed.getvalue(), repository="trigger", tag="latest", changes=changes)
    try:
        assert "ONBUILD" in rejected(play, "FROM trigger\nCMD true")
        assert log.read_text() == ""
    finally:
        engine.remove_image("trigger:latest")


def test_a_frontend_image_is_not_executed(play: MakePlay) -> None:
    assert "line 1: the frontend" in rejected(play, "# syntax=busybox\nFROM busybox\nCMD true")


@pytest.mark.parametrize("head", ["#syntax = busybox\n", "// syntax=busybox\n", '{"syntax": "busybox"}\n'])
def test_no_way_of_naming_a_frontend_works(play: MakePlay, head: str) -> None:
    attempt = play()
    with pytest.raises(AttemptFailed) as failed:
        attempt.build(head + "FROM busybox\nCMD true")
    assert failed.value.reason in {Reason.REJECTED, Reason.BUILD_FAILED}


def test_the_standard_frontend_is_the_built_in_one(play: MakePlay) -> None:
    attempt = play()

    ended = attempt.build_and_run(
        "# syntax=docker/dockerfile:1.4\n# escape=`\nFROM busybox\nRUN echo `\n  a\nCMD echo done"
    )

    assert ended.exit_code == 0
    assert b"is built in" in attempt.sink.data(Stream.BUILD_STDERR)


@pytest.mark.parametrize(
    "mount",
    [
        "type=cache,target=/c",
        "target=/c,type=cache",
        '"type=cache",target=/c',
        "type=ca\\che,target=/c",
        "'target=/c ,type=cache'",
        "type=secret,id=x",
        "type=ssh",
    ],
)
def test_mounts_that_outlive_a_build_are_refused(play: MakePlay, mount: str) -> None:
    assert "line 2: RUN --mount" in rejected(play, f"FROM busybox\nRUN --mount={mount} true\nCMD true")


def test_one_job_cannot_read_what_another_left_in_the_layer_cache(play: MakePlay) -> None:
    first, second = play(), play()
    dockerfile = "FROM busybox\nRUN head -c 8 /dev/urandom | od -x > /made\nCMD cat /made"

    first.build_and_run(dockerfile)
    second.build_and_run(dockerfile)

    assert first.sink.data(Stream.STDOUT) != second.sink.data(Stream.STDOUT)


def test_build_steps_have_no_network(play: MakePlay, internal_server: tuple[int, Path]) -> None:
    port, log = internal_server
    attempt = play()

    with pytest.raises(AttemptFailed, match="line 2: RUN wget") as failed:
        attempt.build(f"FROM busybox\nRUN wget -T 3 http://127.0.0.1:{port}/x\nCMD true")

    assert failed.value.reason == Reason.BUILD_FAILED
    assert log.read_text() == ""


def test_another_jobs_image_is_no_base(play: MakePlay) -> None:
    victim = play()
    image = victim.build("FROM busybox\nRUN echo secret > /secret\nCMD true")
    digest = image.removeprefix("sha256:")
    tag = f"dccf-job:{victim.attempt.job_id}-1"

    for name in (tag, f"docker.io/library/{tag}", image, digest, digest[:12]):
        assert "line 1" in rejected(play, f"FROM {name}\nCMD cat /secret")
    assert "line 2" in rejected(play, f"FROM busybox\nCOPY --from={tag} /secret /\nCMD true")
    assert "line 2" in rejected(play, f"FROM busybox\nRUN --mount=from={tag},target=/m true\nCMD true")


def test_images_that_are_not_allowed_are_refused_wherever_they_are_named(play: MakePlay) -> None:
    for dockerfile in (
        "FROM evil/image\nCMD true",
        "ARG BASE=evil/image\nFROM $BASE\nCMD true",
        "ARG BASE=evil\nFROM ${BASE:-busybox}/image\nCMD true",
        "FROM busybox\nCOPY --from=evil/image / /\nCMD true",
        "FROM busybox\nRUN --mount=from=evil/image,target=/m true\nCMD true",
    ):
        attempt = play({"allowed_images": ("docker.io/library/*",)})
        with pytest.raises(AttemptFailed, match="evil/image") as failed:
            attempt.build(dockerfile)
        assert failed.value.reason == Reason.REJECTED


def test_200_layers_fail_the_build_and_not_the_daemon(play: MakePlay) -> None:
    attempt = play()
    layers = "".join(f"COPY a /{number}\n" for number in range(200))

    with pytest.raises(AttemptFailed) as failed:
        attempt.build(f"FROM busybox\n{layers}CMD true", {"a": b"x"})

    assert failed.value.reason == Reason.BUILD_FAILED
    assert attempt.runner.check().engine == "docker"


def test_an_image_that_is_too_large_is_not_run(play: MakePlay) -> None:
    attempt = play({"image_limit_bytes": 16 << 20})

    with pytest.raises(AttemptFailed, match="bytes") as failed:
        attempt.build("FROM busybox\nRUN head -c 32m /dev/urandom > /big\nCMD true")

    assert failed.value.reason == Reason.INVALID_IMAGE


def test_a_build_step_cannot_take_all_memory(play: MakePlay) -> None:
    attempt = play()

    with pytest.raises(AttemptFailed, match="line 2: RUN tail /dev/zero") as failed:
        attempt.build("FROM busybox\nRUN tail /dev/zero\nCMD true")

    assert failed.value.reason == Reason.BUILD_FAILED


def test_a_build_step_cannot_fork_without_end(play: MakePlay) -> None:
    attempt = play(build_timeout_seconds=5)

    with pytest.raises(AttemptFailed):
        attempt.build("FROM busybox\nRUN bomb() { bomb | bomb & }; bomb; sleep 60\nCMD true")

    assert attempt.runner.check().engine == "docker"


def test_a_dockerfile_that_is_too_long_is_not_parsed(play: MakePlay) -> None:
    attempt = play({"max_dockerfile_bytes": 1000})

    with pytest.raises(AttemptFailed, match="1000 are allowed") as failed:
        attempt.build("FROM busybox\n" + "# filler\n" * 1000)

    assert failed.value.reason == Reason.REJECTED


def test_a_huge_context_is_streamed(play: MakePlay) -> None:
    import tracemalloc

    from dccf.runner.base import ContextFile
    from tests.runner_kit import context_of

    piece = bytes(1 << 20)

    def pieces() -> Iterator[bytes]:
        for _ in range(256):
            yield piece

    attempt = play()
    context = [*context_of("FROM busybox\nCMD true"), ContextFile("big", 256 << 20, 0o644, pieces())]
    context += [ContextFile(f"f/{number}", 3, 0o644, [b"abc"]) for number in range(1000)]

    tracemalloc.start()
    attempt.build_context(context)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 16 << 20


def test_a_build_step_that_floods_its_log_is_clipped_and_goes_on(play: MakePlay) -> None:
    """BuildKit passes on 2 MiB a step (measured); of what the other builder sends, head and tail are kept."""
    attempt = play()

    ended = attempt.build_and_run("FROM busybox\nRUN yes | head -c 20m; touch /done\nCMD test -e /done")

    assert ended.exit_code == 0
    assert len(attempt.sink.data(Stream.BUILD_STDOUT)) < 4 << 20
