"""Jobs with a network against the firewall: what they reach without it, and that they do not with it.

A daemon in its own network namespace stands for the pod or machine; a second namespace behind a veth pair for what
lies around it, with private addresses (a database, the metadata service) and a public one.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from dccf.errors import AttemptFailed
from dccf.local.daemon import PrivateDaemon
from dccf.models import Reason, Stream
from dccf.runner import firewall, selftest
from dccf.runner.docker_runner import DockerRunner
from dccf.runner.engine import Engine
from dccf.runner.firewall import Firewall
from tests.fixtures_docker import start_daemon
from tests.processes import wait_for
from tests.runner_kit import Play, runner_settings

pytestmark = pytest.mark.docker

#: What lies around the daemon; 198.51.100.0/24 is for documentation (RFC 5737) and stands for a public network.
AROUND = {
    "the pod network": "10.77.0.2",
    "the metadata service": "169.254.169.254",
    "carrier-grade NAT": "100.64.3.3",
    "a host of 192.168/16": "192.168.77.2",
    "a public host": "198.51.100.7",
}
#: The daemon's own addresses: towards the network around it, and on docker0.
OWN = {"the daemon's namespace": "10.77.0.1", "the gateway": "172.17.0.1"}
PORT = "8000"
AROUND6, PUBLIC6, OWN6 = "fd77::2", "2001:db8:7::2", "fd77::1"


def run(*command: str, check: bool = True) -> str:
    done = subprocess.run(command, check=check, capture_output=True, text=True, timeout=60)
    return done.stdout


class Site:
    """The daemon, what is around it, and jobs that try to reach it."""

    def __init__(self, daemon: PrivateDaemon, around: str) -> None:
        self.daemon, self.around = daemon, around
        self.engine = Engine(daemon.docker_url)

    def in_daemon(self, *command: str, check: bool = True) -> str:
        return run("nsenter", "--net", f"--target={self.daemon.pid}", *command, check=check)

    def set_firewall(self, script: str) -> None:
        subprocess.run(
            ["nsenter", "--net", f"--target={self.daemon.pid}", "sh", "-s"], input=script, text=True, check=True
        )

    def reached(self, network: str = "bridge", addresses: dict[str, str] | None = None) -> set[str]:
        """Run a container that tries them all; the names of those that answered."""
        addresses = addresses or {**AROUND, **OWN}
        # An IPv6 address is tentative for its first second (RFC 4862).
        tries = "sleep 2; " * (":" in "".join(addresses.values())) + "; ".join(
            f"echo hello | nc -w 2 {address} {PORT} && echo {address}" for address in addresses.values()
        )
        name = f"dccf-try-{uuid.uuid4().hex[:8]}"
        config = {"Image": "busybox", "Cmd": ["sh", "-c", tries], "HostConfig": {"NetworkMode": network}}
        self.engine.create(name, config)
        try:
            self.engine.start(name)
            self.engine.wait(name)
            said = self.engine.client.logs(name).decode().split()
        finally:
            self.engine.remove_container(name)
        return {what for what, address in addresses.items() if address in said}


@pytest.fixture
def site() -> Iterator[Site]:
    folder = Path(tempfile.mkdtemp(prefix="dccf-network-"))
    around, veth = f"dccf-{uuid.uuid4().hex[:8]}", f"v{uuid.uuid4().hex[:8]}"
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        daemon = start_daemon(folder)
        stack.callback(daemon.stop)
        run("ip", "netns", "add", around)
        stack.callback(run, "ip", "netns", "delete", around)
        (folder / "served").mkdir()
        made = Site(daemon, around)
        made.in_daemon("ip", "link", "add", veth, "type", "veth", "peer", "name", "around")
        made.in_daemon("ip", "link", "set", "around", "netns", f"/run/netns/{around}")
        there = ("ip", "netns", "exec", around)
        for address in (*AROUND.values(), AROUND6, PUBLIC6):
            options = ["nodad"] if ":" in address else []
            run(
                *there, "ip", "address", "add", f"{address}/{64 if ':' in address else 24}", "dev", "around", *options
            )
        run(*there, "ip", "link", "set", "lo", "up")
        run(*there, "ip", "link", "set", "around", "up")
        for address in ("10.77.0.1", "169.254.169.1", "100.64.3.1", "192.168.77.1", "198.51.100.1"):
            made.in_daemon("ip", "address", "add", f"{address}/24", "dev", veth)
        for address in (OWN6, "2001:db8:7::1"):
            made.in_daemon("ip", "address", "add", f"{address}/64", "dev", veth, "nodad")
        made.in_daemon("ip", "link", "set", veth, "up")
        made.in_daemon("ip", "route", "add", "default", "via", AROUND["the pod network"])
        run(*there, "ip", "-6", "route", "add", "default", "via", OWN6, "dev", "around")
        listeners = [(*there,), ("nsenter", "--net", f"--target={daemon.pid}")]
        for prefix in listeners:
            server = [sys.executable, "-m", "http.server", PORT, "--bind", "::"]
            listener = subprocess.Popen([*prefix, *server], cwd=folder / "served", stderr=subprocess.DEVNULL)
            stack.callback(listener.wait)
            stack.callback(listener.kill)
        wait_for("the listeners", lambda: "LISTEN" in made.in_daemon("ss", "-ltn", f"sport = :{PORT}"))
        wait_for("the listeners", lambda: "LISTEN" in run(*there, "ss", "-ltn", f"sport = :{PORT}"))
        yield made


def test_without_the_firewall_a_container_reaches_everything_and_with_it_the_public_network_only(site: Site) -> None:
    assert site.reached() == AROUND.keys() | OWN.keys(), "the control: the attack works"
    site.engine.client.create_network("dccf-other", options={"com.docker.network.bridge.enable_icc": "false"})
    assert site.reached("dccf-other") >= AROUND.keys()

    site.set_firewall(firewall.script())
    assert site.reached() == {"a public host"}
    assert site.reached("dccf-other") == {"a public host"}

    site.set_firewall(firewall.script())  # once more is no harm
    site.engine.client.create_network("dccf-third")
    assert site.reached("dccf-third") == {"a public host"}, "a bridge that was made later"


def test_over_ipv6_a_container_is_kept_away_as_well(site: Site) -> None:
    pool = {"Config": [{"Subnet": "fd99::/64"}, {"Subnet": "172.29.0.0/24"}]}
    site.engine.client.create_network("dccf-six", enable_ipv6=True, ipam=pool)
    site.in_daemon("sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding")
    tried = {"private": AROUND6, "public": PUBLIC6, "own": OWN6}
    assert site.reached("dccf-six", tried) == tried.keys(), "the control: the attack works"

    site.set_firewall(firewall.script())

    assert site.reached("dccf-six", tried) == {"public"}


def test_the_worker_knows_whether_the_firewall_is_in_force_and_refuses_bridge_without_it(site: Site) -> None:
    settings = runner_settings(docker_url=site.daemon.docker_url, allow_bridge=True)
    assert "not kept from private addresses" in Firewall(site.engine, settings).opening()
    assert "bridge" in selftest_detail(settings.docker_url)
    play = Play(DockerRunner(settings), network="bridge")
    with pytest.raises(AttemptFailed, match="firewall") as refused:
        play.build("FROM busybox\nCMD true")
    assert refused.value.reason == Reason.REJECTED
    trusting = Play(DockerRunner(settings.model_copy(update={"bridge_firewall": "off"})), network="bridge")
    try:
        assert trusting.build_and_run("FROM busybox\nCMD true").exit_code == 0
    finally:
        trusting.close()

    site.set_firewall(firewall.script())

    assert Firewall(site.engine, settings).opening() == ""
    play = Play(DockerRunner(settings), network="bridge")
    try:
        ended = play.build_and_run(
            f"FROM busybox\nCMD for a in {' '.join([*AROUND.values(), *OWN.values()])}; "
            f"do echo hello | nc -w 2 $a {PORT} >/dev/null && echo $a; done; true"
        )
        assert (ended.exit_code, play.sink.data(Stream.STDOUT)) == (0, b"198.51.100.7\n")
    finally:
        play.close()
    assert site.engine.containers({}) == []


def test_builds_get_the_public_network_only_where_the_firewall_is_in_force(site: Site) -> None:
    settings = runner_settings(docker_url=site.daemon.docker_url, build_network="egress", image_cache_bytes=0)
    tries = "; ".join(
        f"echo hello | nc -w 2 {address} {PORT} && echo {address} >> /reached"
        for address in (AROUND["the pod network"], AROUND["a public host"], OWN["the gateway"])
    )
    dockerfile = f"FROM busybox\nRUN touch /reached; {tries}; true\nCMD cat /reached"

    for script, expected in (("true", b""), (firewall.script(), b"198.51.100.7\n")):
        site.set_firewall(script)
        play = Play(DockerRunner(settings))
        try:
            assert play.build_and_run(dockerfile).exit_code == 0
            assert play.sink.data(Stream.STDOUT) == expected
            assert (b"no network" in play.sink.data(Stream.BUILD_STDERR)) is (expected == b"")
        finally:
            play.close()


def selftest_detail(docker_url: str) -> str:
    """What the self-test says of the firewall."""
    settings = runner_settings(docker_url=docker_url, allow_bridge=True)
    (check,) = selftest._firewall(settings)
    assert not check.passed
    assert not check.is_required
    return check.detail
