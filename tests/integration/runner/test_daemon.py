"""The private daemon starts, stops, dies with its parent, and leaves nothing of itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dccf.errors import LocalStackError
from dccf.local import cgroups
from dccf.local.daemon import PrivateDaemon, check_machine
from dccf.runner.engine import Engine
from tests.fixtures_docker import start_daemon

pytestmark = pytest.mark.docker

CGROUPS = Path("/sys/fs/cgroup")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[PrivateDaemon]:
    """A daemon of the test's own."""
    daemon = start_daemon(tmp_path / "docker")
    yield daemon
    daemon.stop()


def wait_until(condition: Callable[[], bool], timeout_seconds: float = 20) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not become so in time"
        time.sleep(0.02)


def leftovers(folder: Path) -> list[str]:
    """List the processes, mounts and control groups of a daemon."""
    group = cgroups.name_for(folder)
    found = [str(path) for path in CGROUPS.rglob(group)]
    found += [line for line in Path("/proc/mounts").read_text().splitlines() if str(folder) in line]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if b"dockerd" in line and os.fsencode(folder) in line:
            found.append(line.decode())
    return found


def run_something(url: str, command: str) -> str:
    """Run a command in busybox; give its output."""
    client = Engine(url).client
    container = client.create_container("busybox", ["sh", "-c", command], host_config={"NetworkMode": "none"})
    client.start(container)
    client.wait(container)
    return str(client.logs(container).decode())


def test_it_runs_containers_and_keeps_its_images_over_a_restart(daemon: PrivateDaemon) -> None:
    first = daemon.ensure_busybox()

    assert run_something(daemon.docker_url, "id -u; ls -d /tmp /etc/passwd; date >/tmp/x").startswith("0\n")

    daemon.stop()
    daemon.start()

    assert first == daemon.ensure_busybox()


def test_root_in_a_container_is_not_root_outside(daemon: PrivateDaemon) -> None:
    assert run_something(daemon.docker_url, "cat /proc/self/uid_map").split()[1] != "0"


def test_it_says_that_it_is_dccfs_alone(daemon: PrivateDaemon) -> None:
    assert "dccf.exclusive=true" in Engine(daemon.docker_url).info()["Labels"]


def test_after_stop_nothing_is_left(daemon: PrivateDaemon) -> None:
    run_something(daemon.docker_url, "true")
    assert leftovers(daemon.folder)

    daemon.stop()

    assert leftovers(daemon.folder) == []


def test_after_a_crash_it_can_be_started_again(daemon: PrivateDaemon) -> None:
    client = Engine(daemon.docker_url).client
    container = client.create_container("busybox", ["sleep", "1000"], host_config={"NetworkMode": "none"})
    client.start(container)

    daemon.kill()
    assert leftovers(daemon.folder) == []
    daemon.start()

    state = Engine(daemon.docker_url).state(container["Id"])
    assert not state.is_running
    assert state.exit_code == 255


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_dies_with_the_process_that_started_it(tmp_path: Path, number: signal.Signals) -> None:
    folder = tmp_path / "docker"
    start_daemon(folder).stop()
    program = (
        "import sys, time, pathlib\nfrom dccf.local.daemon import PrivateDaemon\n"
        "PrivateDaemon(pathlib.Path(sys.argv[1])).start()\nprint('up', flush=True)\ntime.sleep(1000)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"up\n"
        assert leftovers(folder)

        parent.send_signal(number)

    wait_until(lambda: not leftovers(folder))


def test_as_a_program_it_ends_with_0_when_told_to(tmp_path: Path) -> None:
    folder = tmp_path / "docker"
    start_daemon(folder).stop()
    with subprocess.Popen([sys.executable, "-m", "dccf.local.daemon", "--folder", str(folder)]) as process:
        PrivateDaemon(folder).wait_until_ready()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert leftovers(folder) == []


def test_on_the_machines_network_it_runs_containers_without_a_network(tmp_path: Path) -> None:
    daemon = start_daemon(tmp_path / "docker", own_network=False)

    assert run_something(daemon.docker_url, "ls /sys/class/net") == "lo\n"
    assert "bridge" not in {network["Name"] for network in Engine(daemon.docker_url).client.networks()}

    daemon.stop()


def test_two_daemons_do_not_share_a_folder(daemon: PrivateDaemon) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "dccf.local.daemon", "--folder", str(daemon.folder)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert second.returncode == 1
    assert "another private Docker daemon uses this folder" in second.stderr
    assert run_something(daemon.docker_url, "echo fine") == "fine\n"


def test_what_is_missing_is_said_with_a_way_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(LocalStackError, match="choose a folder elsewhere"):
        check_machine(Path("/run/dccf"))
    with pytest.raises(LocalStackError, match="too long"):
        check_machine(tmp_path / ("x" * 100))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(LocalStackError, match="needs root"):
        check_machine(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LocalStackError, match=r"dockerd is not installed\. Install"):
        check_machine(tmp_path)
