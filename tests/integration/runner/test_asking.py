"""What a job may ask for reaches its container, and the administrator's word holds."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dccf.errors import AttemptFailed, EngineUnavailable
from dccf.fields import MIB
from dccf.models import Reason, Stream
from dccf.runner import admission, selftest
from dccf.runner.docker_runner import DockerRunner
from dccf.runner.engine import Engine
from dccf.runner.spec import name_of
from tests.fixtures_docker import start_daemon
from tests.processes import wait_for
from tests.runner_kit import Play, runner_settings

pytestmark = pytest.mark.docker

MakePlay = Callable[..., Play]

ADD_APP = "echo app:x:1234:1234::/:/bin/sh >> /etc/passwd"
#: An image whose program wants to be root with root's rights: many in the world do so at their start.
ROOTS_HABITS = (
    "FROM busybox\n"
    f"RUN mkdir /var/app && {ADD_APP}\n"
    "CMD chown app /var/app && touch /var/state && su app -s /bin/sh -c 'id -u; echo x > /var/app/x; ls -l /var/app'"
)


@pytest.fixture
def play(docker_url: str) -> Iterator[MakePlay]:
    """Makes attempts, and removes what they made."""
    made: list[Play] = []

    def make(settings: dict[str, object] | None = None, **spec: object) -> Play:
        # Nothing is kept for an owner: the daemon is that of other tests as well.
        runner = DockerRunner(runner_settings(docker_url=docker_url, image_cache_bytes=0, **(settings or {})))
        made.append(Play(runner, **spec))
        return made[-1]

    yield make
    for each in made:
        each.close()


COMPAT = {"allowed_profiles": ("strict", "compat")}


def test_an_image_with_roots_habits_works_under_compat(play: MakePlay) -> None:
    attempt = play(COMPAT, profile="compat")

    ended = attempt.build_and_run(ROOTS_HABITS)

    assert ended.exit_code == 0, attempt.sink.data(Stream.STDERR)
    lines = attempt.sink.data(Stream.STDOUT).splitlines()
    assert (lines[0], b" app " in lines[-1]) == (b"1234", True)


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("touch /var/state", "it wanted to write outside of /output and /tmp"),
        ("touch /tmp/x && chown 1234 /tmp/x", "it wanted to do what only root with its special rights may"),
        ("touch /tmp/x && chown 1234 /tmp/x; seq 100000; exit 1", None),
    ],
)
def test_under_strict_the_message_points_to_compat(play: MakePlay, command: str, why: str | None) -> None:
    attempt = play(COMPAT)

    ended = attempt.build_and_run(f"FROM busybox\nCMD {command}")

    assert ended.reason == Reason.EXIT_NONZERO
    expected = f"The container ended with exit code 1. It looks as if {why}: profile: compat lets it."
    if why is None:
        expected = expected.replace("None", "it wanted to do what only root with its special rights may")
    assert ended.message == expected


def test_where_compat_is_not_allowed_the_hint_says_whom_to_ask(play: MakePlay) -> None:
    ended = play().build_and_run("FROM busybox\nCMD touch /var/state")

    assert "DCCF_ALLOWED_PROFILES" in ended.message


@pytest.mark.parametrize("line", ["USER 1234\nCMD chown 0 /tmp", "CMD echo failed >&2; exit 1"])
def test_a_failure_that_compat_would_not_cure_gets_no_hint(play: MakePlay, line: str) -> None:
    ended = play(COMPAT).build_and_run(f"FROM busybox\n{line}")

    assert ended.message == "The container ended with exit code 1."


def test_a_container_under_compat_that_fills_the_disk_is_ended(play: MakePlay) -> None:
    attempt = play({**COMPAT, "rootfs_limit_bytes": 8 * MIB}, profile="compat")

    ended = attempt.build_and_run("FROM busybox\nCMD head -c 64m /dev/zero > /var/big; echo written; sleep 60")

    assert ended.reason == Reason.DISK_LIMIT_EXCEEDED
    assert "more than 8 MiB outside of /output" in ended.message


def test_the_user_is_the_jobs_when_it_names_one(play: MakePlay) -> None:
    attempt = play(user="4321:77")
    image = attempt.build(f"FROM busybox\nRUN {ADD_APP}\nUSER app\nCMD id -u; id -g; touch /output/x")

    assert attempt.run(image).exit_code == 0
    assert attempt.sink.data(Stream.STDOUT) == b"4321\n77\n"
    assert attempt.collect() == {"x": b""}


def test_a_user_that_the_image_does_not_have_is_said(play: MakePlay) -> None:
    attempt = play(user="nobody-of-that-name")

    with pytest.raises(AttemptFailed, match="nobody-of-that-name") as failed:
        attempt.build_and_run("FROM busybox\nCMD true")

    assert failed.value.reason == Reason.INVALID_IMAGE


def test_the_runtime_is_the_jobs_when_it_names_one(play: MakePlay, docker_url: str) -> None:
    attempt = play({"allowed_runtimes": ("io.containerd.runc.v2",)}, runtime="io.containerd.runc.v2")

    ended = attempt.build_and_run("FROM busybox\nCMD true")

    described = Engine(docker_url).ask(f"/containers/{name_of(attempt.attempt)}/json")
    assert (ended.exit_code, described["HostConfig"]["Runtime"]) == (0, "io.containerd.runc.v2")


def test_runtimes_of_the_administrators_are_used_and_blamed(tmp_path: Path) -> None:
    """One that marks what it runs, and one that runs nothing: the fault is the daemon's then, not the image's."""
    folder = Path(tempfile.mkdtemp(prefix="dccf-docker-"))
    daemon = start_daemon(folder)
    (tmp_path / "marking").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/marks\nexec runc "$@"\n')
    (tmp_path / "failing").write_text("#!/bin/sh\nexit 1\n")
    for name in ("marking", "failing"):
        (tmp_path / name).chmod(0o755)
    runtimes = {name: {"path": str(tmp_path / name)} for name in ("marking", "failing")}
    (tmp_path / "daemon.json").write_text(json.dumps({"runtimes": runtimes}))
    # A folder of the daemon's own mount namespace: the machine's stays as it is.
    script = f"mount -t tmpfs none /etc/docker && cp {tmp_path}/daemon.json /etc/docker/ && kill -HUP 1"
    namespaces = ["nsenter", "--mount", "--pid", "--target", str(daemon.pid), "sh", "-c", script]
    made: list[Play] = []

    def play(runtime: str) -> Play:
        settings = runner_settings(docker_url=daemon.docker_url, allowed_runtimes=tuple(runtimes))
        made.append(Play(DockerRunner(settings), runtime=runtime))
        return made[-1]

    try:
        subprocess.run(namespaces, check=True, timeout=30)
        wait_for("the runtimes", lambda: "failing" in admission.runtimes_of(Engine(daemon.docker_url)))
        assert play("marking").build_and_run("FROM busybox\nCMD true").exit_code == 0
        assert " create " in (tmp_path / "marks").read_text()
        with pytest.raises(EngineUnavailable, match="failing"):
            play("failing").build_and_run("FROM busybox\nCMD true")
    finally:
        for each in made:
            each.close()
        daemon.stop()
        shutil.rmtree(folder, ignore_errors=True)


def test_the_self_test_says_which_runtimes_and_files_work(docker_url: str, tmp_path: Path) -> None:
    names = ("io.containerd.runc.v2", "runsc")
    (tmp_path / "config.json").write_text('{"auths": {"https://r.example/v2/": {"auth": "YTpi"}}}')
    good = runner_settings(
        docker_url=docker_url,
        allowed_runtimes=names,
        secrets_folder=tmp_path,
        registry_auth_file=tmp_path / "config.json",
    )

    checks = selftest.run(good)

    found = {check.name: check for check in checks}
    assert [found[f"runtime {name}"].passed for name in names] == [True, False]
    assert "this worker's Docker daemon has" in found["runtime runsc"].detail
    assert found["secrets"].passed
    assert (found["registry passwords"].passed, found["registry passwords"].detail) == (True, "for r.example")
    assert selftest.failures(checks) == ""


def test_limits_reach_the_container(play: MakePlay) -> None:
    attempt = play(
        {"ulimits_limit": {"nofile": 9000, "stack": 64 * MIB}},
        pids=32,
        tmp="5m",
        shm="3m",
        ulimits={"nofile": 9000, "stack": 32 * MIB},
        cpus=0.5,
        memory="48m",
    )

    ended = attempt.build_and_run(
        "FROM busybox\nCMD ulimit -n; ulimit -s; cd /sys/fs/cgroup;"
        "cut -d' ' -f1 cpu.max cpu/cpu.cfs_quota_us 2>/dev/null;"
        "cat memory.max memory/memory.limit_in_bytes pids.max pids/pids.max 2>/dev/null;"
        "df -k /tmp /dev/shm | awk 'NR>1 {print $2}';"
        "i=0; while [ $i -lt 64 ]; do sleep 9 & i=$((i+1)); done 2>/dev/null; echo started"
    )

    assert attempt.sink.data(Stream.STDOUT).split() == [
        *(b"9000", b"32768", b"50000", b"50331648", b"32", b"5120", b"3072")
    ]
    assert ended.exit_code != 0


def test_the_init_process_passes_signals_on_and_buries_the_dead(play: MakePlay) -> None:
    attempt = play()

    attempt.build_and_run(
        "FROM busybox\nCMD cat /proc/1/comm; (sh -c 'sleep 0.1 &'); sleep 0.5; ps -o stat,comm | grep -c '^Z'"
    )

    assert attempt.sink.data(Stream.STDOUT) == b"docker-init\n0\n"


@pytest.mark.parametrize(
    ("settings", "spec", "words"),
    [
        ({}, {"profile": "compat"}, "profile: 'compat' is not allowed here; use strict"),
        ({}, {"network": "bridge"}, "DCCF_ALLOW_BRIDGE"),
        ({}, {"runtime": "runsc"}, "runtime: 'runsc' is not allowed here; leave it out"),
        ({"allowed_runtimes": ("a", "b")}, {"runtime": "c"}, "use a or b, or ask"),
        ({"allowed_runtimes": ("runsc",)}, {"runtime": "runsc"}, "this worker's Docker daemon has .*runc"),
        ({"cpus_limit": 2}, {"cpus": 2.5}, "cpus: 2.5 is more than the 2 of DCCF_CPUS_LIMIT"),
        ({"memory_limit_bytes": 64 * MIB}, {"memory": "65m"}, "memory: 65 MiB is more than the 64 MiB"),
        ({"pids_limit": 16}, {"pids": 17}, "pids: 17 is more than the 16 of DCCF_PIDS_LIMIT"),
        ({}, {"ulimits": {"nofile": 65537}}, "ulimits/nofile: 65537 is more than the 65536"),
        ({}, {"ulimits": {"nproc": 9}}, "nproc cannot be set here"),
        ({}, {"secrets": {"TOKEN": "token"}}, "'token' cannot be given: the worker has none"),
    ],
)
def test_what_is_not_allowed_is_refused_before_the_build(
    play: MakePlay, settings: dict[str, object], spec: dict[str, object], words: str
) -> None:
    attempt = play(settings, **spec)
    attempt.owner = "ada"

    with pytest.raises(AttemptFailed, match=words) as failed:
        attempt.build("FROM busybox\nRUN sleep 60\nCMD true")

    assert failed.value.reason == Reason.REJECTED


def test_a_secret_is_in_the_environment_and_not_in_the_log(play: MakePlay, tmp_path: Path) -> None:
    value = "correct horse\nbattery staple"
    (tmp_path / "ada").mkdir()
    (tmp_path / "ada" / "token").write_text(value + "\n")
    attempt = play({"secrets_folder": tmp_path}, secrets={"TOKEN": "token"}, env={"OTHER": "x"})
    attempt.owner = "ada"

    image = attempt.build(
        'FROM busybox\nRUN env\nCMD printf %s "$TOKEN" | sha256sum > /output/sum; env; env >&2; printf "correct ho";'
        r'sleep 0.3; printf "rse\nbattery sta"; sleep 0.3; printf "ple|"; printf correct'
    )

    assert attempt.run(image).exit_code == 0
    assert attempt.collect()["sum"].split()[0].decode() == hashlib.sha256(value.encode()).hexdigest()
    out, err = attempt.sink.data(Stream.STDOUT), attempt.sink.data(Stream.STDERR)
    assert b"TOKEN=***\n" in out
    assert b"TOKEN=***\n" in err
    assert out.endswith(b"***|correct")
    everything = b"".join(attempt.sink.data(stream) for stream in Stream)
    assert b"horse" not in everything
    assert b"staple" not in everything
