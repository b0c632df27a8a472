"""Containers that attack the collection of what they leave in ``/output``, in each of the four stores."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from dccf.errors import AttemptFailed, EngineUnavailable
from dccf.models import Reason, Stream
from dccf.runner.docker_runner import DockerRunner
from dccf.runner.engine import Engine
from dccf.runner.outputs import Kind, store_of
from dccf.runner.probe import choose_store
from tests.integration.hostile.conftest import MakePlay
from tests.runner_kit import Play, new_attempt, runner_settings

pytestmark = pytest.mark.docker


@pytest.fixture(params=["loop", "plain", "archive", "tmpfs"])
def store(request: pytest.FixtureRequest) -> str:
    """Each store in turn."""
    return str(request.param)


@pytest.fixture
def play(play: MakePlay, store: str, tmp_path: Path) -> MakePlay:
    """Makes attempts whose output lies in this store; nothing may be left in its folder or mounted from it."""

    def make(settings: dict[str, object] | None = None, **spec: object) -> Play:
        return play({"output_store": store, "output_folder": tmp_path / "output", **(settings or {})}, **spec)

    return make


def collect_until_refused(attempt: Play) -> tuple[list[str], AttemptFailed]:
    """Collect, and give the names of what fits and the error that says what does not."""
    names: list[str] = []

    def collect() -> None:
        for file in attempt.runner.collect(attempt.attempt, attempt.spec):
            names.append(file.path)  # noqa: PERF401 - it ends with an error

    with pytest.raises(AttemptFailed) as failed:
        collect()
    assert failed.value.reason == Reason.OUTPUT_LIMIT_EXCEEDED
    return names, failed.value


def assert_nothing_left(attempt: Play) -> None:
    """Remove an attempt, and look whether anything of its output is left on this machine."""
    attempt.close()
    assert isinstance(attempt.runner, DockerRunner)
    folder = attempt.runner._settings.output_folder
    assert folder is not None
    assert not folder.exists() or not list(folder.iterdir())
    assert str(folder) not in Path("/proc/mounts").read_text()
    backing = [file.read_text() for file in Path("/sys/block").glob("loop*/loop/backing_file")]
    assert not [name for name in backing if name.startswith(str(folder))]


@pytest.mark.parametrize("target", ["/etc", "/proc", "../../etc", "/output2"])
def test_an_output_that_is_a_link_is_refused(play: MakePlay, target: str) -> None:
    attempt = play()
    image = attempt.build(f"FROM busybox\nRUN ln -s {target} /output\nCMD true")

    with pytest.raises(AttemptFailed, match=r"/output|started") as failed:
        attempt.run(image)

    assert failed.value.reason == Reason.INVALID_IMAGE


def test_an_output_that_is_a_file_is_refused(play: MakePlay) -> None:
    attempt = play()
    image = attempt.build("FROM busybox\nRUN touch /output\nCMD true")

    with pytest.raises(AttemptFailed) as failed:
        attempt.run(image)

    assert failed.value.reason == Reason.INVALID_IMAGE


def test_links_pipes_and_devices_in_output_are_left_out(play: MakePlay) -> None:
    attempt = play()

    attempt.build_and_run(
        "FROM busybox\nCMD cd /output; ln -s /etc/shadow link; ln -s / root; mkfifo pipe; mknod sda b 8 0; "
        "mknod mem c 1 1; mkdir locked; printf x > locked/f; chmod 0 locked; printf y > good"
    )

    assert attempt.collect() == {"good": b"y", "locked/f": b"x"}


def test_set_id_bits_do_not_survive(play: MakePlay) -> None:
    attempt = play()

    attempt.build_and_run("FROM busybox\nCMD cd /output; cp /bin/true s; chmod 6755 s; cp s t; chmod 1777 t")

    modes = {file.path: file.mode for file in attempt.runner.collect(attempt.attempt, attempt.spec)}
    assert modes == {"s": 0o755, "t": 0o777}


def test_a_sparse_file_is_not_read(play: MakePlay) -> None:
    attempt = play({"output_limit_bytes": 1 << 40, "output_file_limit_bytes": 8 << 20})
    attempt.build_and_run("FROM busybox\nCMD cd /output; truncate -s 900G sparse; printf x > a; ls -l")

    began = time.monotonic()
    with pytest.raises(AttemptFailed, match="sparse"):
        list(attempt.runner.collect(attempt.attempt, attempt.spec))

    # A terabyte of zeros would take hours.
    assert time.monotonic() - began < 60


def test_a_file_larger_than_all_that_is_allowed_cannot_be_made(play: MakePlay) -> None:
    attempt = play({"output_limit_bytes": 8 << 20})

    ended = attempt.build_and_run("FROM busybox\nCMD exec truncate -s 9M /output/big")

    assert ended.exit_code != 0


def test_a_flood_of_files_is_cut_off(play: MakePlay) -> None:
    attempt = play({"output_files_limit": 100})
    attempt.build_and_run("FROM busybox\nCMD cd /output; for i in $(seq 1 2000); do : > f$i; done")

    collected, error = collect_until_refused(attempt)

    assert len(collected) == 100
    assert "100 files" in error.message or "500 entries" in error.message


def test_a_flood_of_empty_folders_is_cut_off(play: MakePlay) -> None:
    attempt = play({"output_files_limit": 100})
    attempt.build_and_run("FROM busybox\nCMD cd /output; mkdir $(seq 1 2000)")

    with pytest.raises(AttemptFailed, match="entries"):
        attempt.collect()


def test_hostile_names_become_safe_and_stay_apart(play: MakePlay) -> None:
    attempt = play()

    attempt.build_and_run(
        "FROM busybox\nCMD cd /output; printf 1 > \"$(printf 'a\\nb')\"; printf 2 > ./-rf; "
        "printf 3 > \"$(printf '\\377')\"; printf 4 > %FF; printf 5 > ...; printf 6 > 'sp ace'; printf 7 > 50%; "
        "mkdir ..x; printf 8 > ..x/é"
    )

    assert attempt.collect() == {
        "a%0Ab": b"1",
        "-rf": b"2",
        "%FF": b"3",
        "%25FF": b"4",
        "...": b"5",
        "sp ace": b"6",
        "50%": b"7",
        "..x/é": b"8",
    }


def test_volumes_of_an_image_leave_nothing(play: MakePlay) -> None:
    attempt = play()

    ended = attempt.build_and_run(
        "FROM busybox\nVOLUME /a /b /output /output/sub /tmp\nCMD touch /a/x /b/x /output/x"
    )

    assert ended.exit_code == 0
    assert attempt.collect() == {"x": b""}


def test_every_store_gives_back_what_was_written_and_leaves_nothing(play: MakePlay) -> None:
    attempt = play()

    attempt.build_and_run(
        "FROM busybox\nRUN mkdir /output && printf kept > /output/built\nUSER 1234:99\n"
        "CMD ls -A /output; cd /output; mkdir -p d/e; printf x > d/e/f; head -c 3000000 /dev/zero > big"
    )

    assert attempt.sink.data(Stream.STDOUT) == b"built\n"
    assert attempt.collect() == {"big": bytes(3_000_000), "built": b"kept", "d/e/f": b"x"}
    assert_nothing_left(attempt)


def test_2044_levels_do_no_harm(play: MakePlay) -> None:
    attempt = play()
    attempt.build_and_run(
        "FROM busybox\nCMD cd /output; printf x > z; for i in $(seq 2043); do mkdir d && cd d; done; touch bottom"
    )

    collected, error = collect_until_refused(attempt)

    assert collected in (["z"], [])  # the archive has folders first
    assert "nested deeper than 128" in error.message
    assert_nothing_left(attempt)


def test_sockets_and_folders_that_nobody_may_read_do_no_harm(play: MakePlay) -> None:
    attempt = play()

    attempt.build_and_run(
        "FROM busybox\nCMD cd /output; timeout 1 nc -l -s local:/output/socket 2>/dev/null; mkdir -p a/b; "
        "printf 1 > a/b/f; chmod 0 a/b/f a/b a .; true"
    )

    assert attempt.collect() == {"a/b/f": b"1"}
    assert_nothing_left(attempt)


@pytest.mark.parametrize("store", ["loop"], indirect=True)
def test_a_loop_store_ends_a_job_that_fills_the_disk_and_keeps_what_fits(play: MakePlay) -> None:
    attempt = play({"output_limit_bytes": 16 << 20, "output_file_limit_bytes": 8 << 20})

    ended = attempt.build_and_run(
        "FROM busybox\nCMD cd /output; for i in 1 2 3 4 5 6 7 8 9; do head -c 8m /dev/zero > f$i || exit 7; done"
    )

    assert (ended.exit_code, ended.reason) == (7, Reason.OUTPUT_LIMIT_EXCEEDED)
    collected, error = collect_until_refused(attempt)
    assert collected == ["f1", "f2"]
    assert "16777216 bytes" in error.message


@pytest.mark.parametrize("store", ["tmpfs"], indirect=True)
@pytest.mark.parametrize(
    ("command", "kept"),
    [
        ("for i in 1 2 3 4 5 6 7 8 9; do head -c 8m /dev/zero > f$i || exit 7; done", ["f1", "f2"]),
        ("for i in $(seq 1 9999); do touch f$i || exit 7; done", []),
    ],
)
def test_a_tmpfs_store_refuses_more_than_its_size_and_keeps_what_fits(
    play: MakePlay, command: str, kept: list[str]
) -> None:
    attempt = play({"output_limit_bytes": 16 << 20, "output_file_limit_bytes": 8 << 20, "output_files_limit": 100})

    ended = attempt.build_and_run(f"FROM busybox\nCMD cd /output; {command}")

    assert (ended.exit_code, ended.reason) == (7, Reason.OUTPUT_LIMIT_EXCEEDED)
    collected, _ = collect_until_refused(attempt)
    assert collected[: len(kept)] == kept
    assert len(collected) <= 100
    assert_nothing_left(attempt)


@pytest.mark.parametrize("store", ["tmpfs"], indirect=True)
def test_a_job_that_fails_with_room_in_its_tmpfs_store_fails_for_its_own_reason(play: MakePlay) -> None:
    attempt = play()

    ended = attempt.build_and_run("FROM busybox\nCMD echo x > /output/f; exit 7")

    assert (ended.exit_code, ended.reason) == (7, Reason.EXIT_NONZERO)
    assert attempt.collect() == {"f": b"x\n"}


def test_a_tmpfs_store_that_cannot_be_is_said_with_a_way_out(docker_url: str) -> None:
    settings = runner_settings(docker_url=docker_url, output_store="tmpfs", self_test_image="not-here")

    with pytest.raises(EngineUnavailable, match="DCCF_OUTPUT_STORE=tmpfs needs the image not-here"):
        choose_store(Engine(docker_url), "buildkit", settings)


@pytest.mark.parametrize("store", ["loop"], indirect=True)
def test_a_loop_store_ends_a_flood_of_files(play: MakePlay) -> None:
    attempt = play({"output_files_limit": 100})

    ended = attempt.build_and_run("FROM busybox\nCMD cd /output; mkdir $(seq 1 2000) 2>/dev/null || exit 9")

    assert (ended.exit_code, ended.reason) == (9, Reason.OUTPUT_LIMIT_EXCEEDED)
    assert_nothing_left(attempt)


#: Looks at an attempt's output as a worker does that was started again in a mount namespace of its own.
_OTHER_NAMESPACE = """
import subprocess, sys
from pathlib import Path
from uuid import UUID
from dccf.runner.base import AttemptRef
from dccf.runner.outputs import store_of
from tests.runner_kit import runner_settings
root, job, worker = sys.argv[1:]
store, attempt = store_of(runner_settings(output_folder=Path(root)), "loop"), AttemptRef(UUID(job), 1, worker)
subprocess.run(["umount", store.folder(attempt)], check=True)
folder = store.folder(attempt)
assert (folder / "from-first").read_text() == "1"
(folder / "from-second").write_text("2")
"""


@pytest.mark.parametrize("store", ["loop"], indirect=True)
def test_a_loop_store_is_one_file_system_in_all_mount_namespaces(store: Kind, tmp_path: Path) -> None:
    """Two loop devices for one file would each write over what the other has written; ``mount`` takes the first."""
    here, attempt = store_of(runner_settings(output_folder=tmp_path), store), new_attempt()
    here.prepare(attempt)
    try:
        folder = here.folder(attempt)
        assert folder is not None
        (folder / "from-first").write_text("1")

        command = ["unshare", "--mount", sys.executable, "-c", _OTHER_NAMESPACE]
        subprocess.run([*command, str(tmp_path), str(attempt.job_id), attempt.worker], check=True, timeout=60)

        assert (folder / "from-second").read_text() == "2"
    finally:
        here.remove(attempt)


def test_the_best_store_is_chosen_by_trying(docker_url: str, tmp_path: Path) -> None:
    engine = Engine(docker_url)

    def chosen(**changes: object) -> str:
        return choose_store(engine, "buildkit", runner_settings(docker_url=docker_url, **changes)).kind

    assert chosen(output_folder=tmp_path) == "loop"
    hidden = Path("/run/dccf-test-output")  # the private daemon has a /run of its own
    with pytest.raises(EngineUnavailable, match="DCCF_OUTPUT_STORE=plain does not work here"):
        chosen(output_folder=hidden, output_store="plain")
    assert not list(hidden.iterdir())
    hidden.rmdir()


def test_without_loop_devices_the_next_best_store_is_taken(
    docker_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(docker_url)
    monkeypatch.setattr("dccf.runner.probe.can_loop", lambda: False)

    hidden = Path("/run/dccf-test-output")  # the private daemon has a /run of its own

    for folder, kind in ((tmp_path, "plain"), (hidden, "archive")):
        settings = runner_settings(docker_url=docker_url, output_folder=folder)
        assert choose_store(engine, "classic", settings).kind == kind
    hidden.rmdir()
