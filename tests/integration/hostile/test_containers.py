"""Containers that attack the machine, the network, and the collection of what they leave."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from dccf.errors import AttemptFailed
from dccf.local.daemon import PrivateDaemon
from dccf.models import Reason, Stream
from dccf.runner.engine import Engine
from dccf.runner.spec import name_of
from tests.integration.hostile.conftest import MakePlay

pytestmark = pytest.mark.docker


@contextlib.contextmanager
def labelled_base(engine: Engine, change: str) -> Iterator[str]:
    """A base image like busybox, with one more instruction in its configuration."""
    client = engine.client
    container = engine.create("labelled-base", {"Image": "busybox:latest"})
    packed = b"".join(client.export(container))
    engine.remove_container(container)
    client.import_image_from_data(packed, repository="labelled-base", tag="latest", changes=[change])
    yield "labelled-base"
    engine.remove_image("labelled-base:latest")


def test_a_fork_bomb_stays_in_its_container(play: MakePlay) -> None:
    attempt = play({"pids_limit": 64}, timeout_seconds=3)

    ended = attempt.build_and_run("FROM busybox\nCMD bomb() { bomb | bomb & }; bomb; sleep 60")

    assert ended.reason in {Reason.TIMED_OUT, Reason.EXIT_NONZERO}
    assert attempt.runner.check().engine == "docker"


def test_there_is_no_network(play: MakePlay, internal_server: tuple[int, Path]) -> None:
    port, log = internal_server
    attempt = play()

    attempt.build_and_run(
        f"FROM busybox\nCMD ls /sys/class/net; for ip in 127.0.0.1 172.17.0.1; do wget -T 2 http://$ip:{port}/; done"
    )

    assert attempt.sink.data(Stream.STDOUT) == b"lo\n"
    assert log.read_text() == ""


def test_bridge_is_refused_unless_allowed(play: MakePlay) -> None:
    attempt = play(network="bridge")

    with pytest.raises(AttemptFailed, match="DCCF_ALLOW_BRIDGE") as failed:
        attempt.build("FROM busybox\nCMD true")

    assert failed.value.reason == Reason.REJECTED


def test_nothing_but_output_and_memory_is_writable(play: MakePlay) -> None:
    attempt = play()

    attempt.build_and_run(
        "FROM busybox\nVOLUME /data\nCMD for d in / /etc /bin /data /tmp /output /dev/shm; do "
        "touch $d/x 2>/dev/null && echo $d; done; df -k /data | tail -n 1 | awk '{print $2}'"
    )

    assert attempt.sink.data(Stream.STDOUT).split() == [b"/data", b"/tmp", b"/output", b"/dev/shm", b"65536"]


def test_capabilities_and_privileges_are_gone(play: MakePlay) -> None:
    attempt = play()

    attempt.build_and_run("FROM busybox\nCMD grep -E 'Cap(Prm|Eff|Bnd|Amb)|NoNewPrivs|Seccomp:' /proc/self/status")

    fields = dict(line.split(b":\t") for line in attempt.sink.data(Stream.STDOUT).splitlines())
    assert {b"0000000000000000"} == {fields[name] for name in (b"CapPrm", b"CapEff", b"CapBnd", b"CapAmb")}
    assert fields[b"NoNewPrivs"] == b"1"
    assert fields[b"Seccomp"] == b"2"


def test_compat_gives_six_capabilities_and_no_way_to_the_machine(play: MakePlay) -> None:
    attempt = play({"allowed_profiles": ("compat",)}, profile="compat", user="0:0")

    attempt.build_and_run(
        "FROM busybox\nCMD grep -E 'Cap(Prm|Eff|Bnd)|NoNewPrivs|Seccomp:' /proc/self/status; mkdir /m;"
        "for attack in 'mknod /disk b 8 0' 'mknod /mem c 1 1' 'mknod /output/disk b 7 0' 'mount -t tmpfs none /m'"
        " 'mount -t proc none /m' 'mount --bind /proc /m' 'mount -o remount,rw /proc/sys' 'unshare -m true'"
        " 'unshare -U true' 'chroot /bin /bin/true' 'hostname other' 'swapoff -a' 'losetup /dev/loop0 /bin/busybox'"
        " 'insmod /bin/busybox' 'nsenter -t 1 -n true' 'nice -n -5 true' 'renice -5 1'"
        " 'tee /proc/sysrq-trigger' 'tee /proc/sys/kernel/hostname' 'tee /sys/fs/cgroup/memory/cgroup.procs';"
        " do echo x | timeout 5 $attack >/dev/null 2>&1 && echo worked: $attack; done;"
        "find /dev ! -type d ! -type l | sort"
    )

    lines = attempt.sink.data(Stream.STDOUT).splitlines()
    fields = dict(line.split(b":\t") for line in lines[:5])
    # CHOWN 0, DAC_OVERRIDE 1, FOWNER 3, SETGID 6, SETUID 7, NET_BIND_SERVICE 10 (linux/capability.h)
    assert {int(fields[name], 16) for name in (b"CapPrm", b"CapEff", b"CapBnd")} == {0b100_1100_1011}
    assert (fields[b"NoNewPrivs"], fields[b"Seccomp"]) == (b"1", b"2")
    assert [line for line in lines if line.startswith(b"worked")] == []
    devices = {b"full", b"null", b"pts/ptmx", b"random", b"tty", b"urandom", b"zero"}
    assert {line.removeprefix(b"/dev/") for line in lines[5:] if line.startswith(b"/dev/")} <= devices


def test_the_environment_holds_the_jobs_own_variables_only(play: MakePlay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_WORKER", "x")
    attempt = play(env={"MINE": "a\nb=c"})

    attempt.build_and_run("FROM busybox\nCMD env | cut -d= -f1 | sort")

    names = set(attempt.sink.data(Stream.STDOUT).split())
    assert {b"HOME", b"HOSTNAME", b"MINE", b"PATH", b"PWD", b"SHLVL", b"b"} >= names


def test_nul_and_invalid_utf_8_stay_bytes_in_logs(play: MakePlay) -> None:
    attempt = play()

    attempt.build_and_run("FROM busybox\nCMD printf 'a\\000b\\377c\\n'; printf '\\001\\002' >&2")

    assert attempt.sink.data(Stream.STDOUT) == b"a\0b\xffc\n"
    assert attempt.sink.data(Stream.STDERR) == b"\1\2"


def test_100_mb_of_output_are_passed_on_in_order(play: MakePlay) -> None:
    attempt = play()

    ended = attempt.build_and_run("FROM busybox\nCMD yes 0123456789abcde | head -c 100m; echo end >&2")

    assert ended.exit_code == 0
    assert len(attempt.sink.data(Stream.STDOUT)) == 100 << 20
    assert attempt.sink.data(Stream.STDOUT) == b"0123456789abcde\n" * ((100 << 20) // 16)
    assert attempt.sink.data(Stream.STDERR) == b"end\n"


def test_a_log_without_end_is_ended(play: MakePlay) -> None:
    attempt = play({"log_limit_bytes": 8 << 20})

    ended = attempt.build_and_run("FROM busybox\nCMD yes")

    assert ended.reason == Reason.LOG_LIMIT_EXCEEDED
    assert len(attempt.sink.data(Stream.STDOUT)) == 8 << 20


def test_a_health_check_is_not_executed(play: MakePlay, engine: Engine) -> None:
    attempt = play()

    attempt.build_and_run(
        "FROM busybox\nHEALTHCHECK --interval=1s CMD echo checked >> /output/checked\nCMD sleep 2.5"
    )

    assert attempt.collect() == {}


def test_labels_of_an_image_do_not_win(play: MakePlay, engine: Engine) -> None:
    labels = "LABEL dccf.managed=false dccf.job=x dccf.fence=99 dccf.worker=other"
    attempt = play()
    with labelled_base(engine, labels) as name:
        attempt.build_and_run(f"FROM {name}\nCMD true")

        assert [attempt.attempt] == attempt.runner.attempts("test-worker")
        assert attempt.runner.attempts("other") == []
        attempt.close()


@pytest.mark.parametrize("line", ["LABEL a=b dccf.job=x", 'LABEL "dcc"f.job=x', "ARG K=dccf.job\nLABEL $K=x"])
def test_our_labels_cannot_be_set(play: MakePlay, line: str) -> None:
    attempt = play()

    with pytest.raises(AttemptFailed, match="LABEL") as failed:
        attempt.build(f"FROM busybox\n{line}\nCMD true")

    assert failed.value.reason == Reason.REJECTED


@pytest.mark.parametrize("volume", ["/proc", "/etc/passwd", "/bin"])
def test_a_volume_in_a_bad_place_harms_nobody_else(play: MakePlay, volume: str) -> None:
    attempt = play()
    image = attempt.build(f"FROM busybox\nVOLUME {volume}\nCMD true")

    outcome: object = None
    try:
        outcome = attempt.run(image).reason
    except AttemptFailed as failed:
        outcome = failed.reason

    assert outcome in {Reason.INVALID_IMAGE, Reason.EXIT_NONZERO}


def test_a_program_that_ignores_signals_dies_all_the_same(play: MakePlay) -> None:
    attempt = play(timeout_seconds=1)

    ended = attempt.build_and_run("FROM busybox\nCMD trap '' TERM INT HUP; while :; do sleep 1; done")

    assert (ended.exit_code, ended.reason) == (137, Reason.TIMED_OUT)


def test_a_child_that_is_killed_for_memory_is_a_warning(play: MakePlay) -> None:
    attempt = play(memory="32m")

    ended = attempt.build_and_run("FROM busybox\nCMD (tail /dev/zero); exit 0")

    assert ended.reason is None
    assert len(ended.warnings) == 1


def test_files_in_tmp_count_as_memory(play: MakePlay) -> None:
    attempt = play(memory="32m")

    ended = attempt.build_and_run("FROM busybox\nCMD exec head -c 100m /dev/zero > /tmp/x")

    assert ended.reason == Reason.OUT_OF_MEMORY


def test_the_daemon_tells_by_its_events_as_well_whose_memory_ran_out(play: MakePlay, engine: Engine) -> None:
    greedy, itself = play(memory="32m"), play(memory="32m")

    greedy.build_and_run("FROM busybox\nCMD exec tail /dev/zero")
    ended = itself.build_and_run("FROM busybox\nCMD sh -c 'kill -9 $$'; exit 137")

    assert engine.has_event(name_of(greedy.attempt), "oom")
    assert not engine.has_event(name_of(itself.attempt), "oom")
    assert ended.reason == Reason.EXIT_NONZERO


def test_root_is_nobody_outside_in_the_build_and_in_the_run(play: MakePlay) -> None:
    attempt = play()

    attempt.build_and_run("FROM busybox\nRUN cat /proc/self/uid_map > /built\nCMD cat /built /proc/self/uid_map")

    maps = [line.split() for line in attempt.sink.data(Stream.STDOUT).decode().splitlines()]
    assert len(maps) == 2
    for inside, outside, count in maps:
        assert (inside, count) == ("0", "65536")
        assert int(outside) >= 100_000


def test_the_daemon_keeps_little_of_a_log_on_its_disk(play: MakePlay, docker_daemon: PrivateDaemon) -> None:
    attempt = play()

    attempt.build_and_run("FROM busybox\nCMD yes 0123456789012345678901234567890123456789 | head -c 60m")

    logs = list(docker_daemon.folder.rglob("local-logs/container.log*"))
    assert logs
    assert sum(log.stat().st_size for log in logs) < 25 << 20
