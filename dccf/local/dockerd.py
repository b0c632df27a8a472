"""The process of a private Docker daemon: dockerd in namespaces of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path

from dccf.local import cgroups

# /run is hidden behind a fresh tmpfs so that no pid file, socket or plug-in of the machine's own
# daemon is seen; subordinate ids are given for this mount namespace only. The data is mounted there too:
# remapped users have to reach it, and the folder's parents may be closed to them.
_SCRIPT = """
set -e
ip link set lo up
mount -t tmpfs -o mode=755 dccf-run /run
mkdir /run/data
mount --bind "$DCCF_DATA" /run/data
if [ "$DCCF_REMAP" = 1 ]; then
    echo nobody:100000:65536 > /run/subids
    mount --bind /run/subids /etc/subuid
    mount --bind /run/subids /etc/subgid
fi
# What workers have mounted for containers is theirs: a copy in this namespace would keep it from being freed.
while read -r _ target _; do
    case $target in */dccf-*-*-*-*-*-*) umount -l "$target" || true ;; esac
done < /proc/mounts
exec dockerd "$@"
"""


def spawn(folder: Path, *, own_network: bool, log_fd: int) -> subprocess.Popen[bytes]:
    """Start dockerd in its namespaces; the kernel kills it when this process dies, however it dies."""
    remap = _can_remap()
    flags = ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"] + (["--net"] if own_network else [])
    command = ["setpriv", "--pdeathsig", "KILL", "unshare", *flags, "sh", "-c", _SCRIPT, "dccf-daemon"]
    command += _daemon_arguments(folder, remap=remap, own_network=own_network)
    # Its own session: Ctrl-C in a terminal reaches the supervisor only, which stops dockerd in order.
    return subprocess.Popen(
        command,
        env={**os.environ, "DCCF_REMAP": str(int(remap)), "DCCF_DATA": str(folder / "data")},
        stdin=subprocess.DEVNULL,
        stdout=log_fd,
        stderr=log_fd,
        start_new_session=True,
    )


def _daemon_arguments(folder: Path, *, remap: bool, own_network: bool) -> list[str]:
    arguments = [
        "--data-root=/run/data",
        "--exec-root=/run/docker",
        "--pidfile=/run/docker.pid",
        f"--host=unix://{folder / 'docker.sock'}",
        f"--cgroup-parent=/{cgroups.name_for(folder)}",
        # systemd's driver would talk to the machine's systemd, which knows nothing of this daemon.
        "--exec-opt=native.cgroupdriver=cgroupfs",
        "--label=dccf.exclusive=true",
        "--log-driver=local",
        "--default-ulimit=core=0:0",
        "--default-ulimit=nofile=4096:4096",
    ]
    if remap:
        arguments.append("--userns-remap=nobody:nogroup")
    # Without a bridge there is no network on which containers could reach each other.
    arguments += ["--icc=false"] if own_network else ["--bridge=none", "--iptables=false"]
    if _major_version() >= 25:
        # Sessionless BuildKit fails with the containerd image store (measured on 26.1.5).
        arguments.append("--feature=containerd-snapshotter=false")
    return arguments


def _major_version() -> int:
    """Read dockerd's major version from ``Docker version 20.10.24, build ...``."""
    words = subprocess.run(["dockerd", "--version"], capture_output=True, text=True, check=True).stdout.split()
    number = words[2].split(".")[0] if len(words) > 2 else ""
    return int(number) if number.isdigit() else 0


def _can_remap() -> bool:
    """Whether root inside containers can be an unprivileged user outside."""
    if not (Path("/etc/subuid").exists() and Path("/etc/subgid").exists()):
        return False
    probe = subprocess.run(["unshare", "--user", "true"], stderr=subprocess.DEVNULL, check=False)
    return probe.returncode == 0


def end(process: subprocess.Popen[bytes], patience_seconds: float) -> None:
    """Stop dockerd in order, and kill it when it takes longer than that; waits for its end."""
    for daemon in children(process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(daemon, signal.SIGTERM)
    try:
        process.wait(patience_seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def children(pid: int) -> list[int]:
    """Give the ids of a process' children; none when it is gone."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]
    except (FileNotFoundError, ProcessLookupError):
        return []
