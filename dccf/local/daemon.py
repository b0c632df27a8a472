"""A private Docker daemon that touches nothing of the machine it runs on.

It lives in its own mount, PID and (unless told otherwise) network namespace, keeps its data in one
folder and its control groups under one name, and dies with the process that started it. Tests use it,
and so does ``dccf up`` where no daemon runs. As a program it stays in the foreground::

    python -m dccf.local.daemon --folder FOLDER
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from dccf.errors import EngineUnavailable, LocalStackError
from dccf.local import busybox, cgroups, dockerd
from dccf.runner.engine import Engine
from dccf.runner.wire import Refused

START_SECONDS = 60.0
#: dockerd gives containers that ignore SIGTERM 10 s (measured).
STOP_SECONDS = 12.0
#: Longest wait for a registry before the local busybox is taken instead.
PULL_SECONDS = 15.0

#: The longest path of a Unix socket is 108 bytes with its closing NUL (unix(7)).
_SOCKET_PATH_MAX = 107
_POLL_SECONDS = 0.05
_PING_SECONDS = 5.0
_TOOLS = {
    "dockerd": "docker.io (Debian) or docker-ce (docker.com)",
    "containerd": "containerd",
    "iptables": "iptables",
    "unshare": "util-linux",
    "setpriv": "util-linux",
    "ip": "iproute2",
}


class PrivateDaemon:
    """Handle on the private daemon of one folder, started by this process or by another.

    ``folder`` keeps images, volumes, the log and the socket. With ``own_network`` the daemon reaches
    no address but its own, so no registry either; without it the daemon pulls over the machine's network but
    offers containers no network at all, and leaves the machine's firewall alone.
    """

    def __init__(self, folder: Path, *, own_network: bool = True) -> None:
        self.folder = folder.absolute()
        self._own_network = own_network
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def docker_url(self) -> str:
        """Where clients find the daemon, as the setting ``docker_url`` wants it."""
        return f"unix://{self.folder / 'docker.sock'}"

    @property
    def log_path(self) -> Path:
        """The daemon's own log."""
        return self.folder / "dockerd.log"

    def start(self) -> None:
        """Start the daemon and wait until it answers. It dies with this process.

        Raises:
            LocalStackError: it cannot be started here; the message says what to do.
        """
        check_machine(self.folder)
        command = [sys.executable, "-m", "dccf.local.daemon", "--folder", str(self.folder)]
        command += [] if self._own_network else ["--host-network"]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            self.wait_until_ready()
        except LocalStackError:
            self.stop()
            raise

    def wait_until_ready(self, timeout_seconds: float = START_SECONDS) -> None:
        """Wait until the daemon answers, whoever started it.

        Raises:
            LocalStackError: it ended, or did not answer in time; the message carries the end of its log.
        """
        deadline = time.monotonic() + timeout_seconds
        while not self._answers():
            if self._process is not None and self._process.poll() is not None:
                raise LocalStackError(f"The private Docker daemon ended while starting.\n{self._log_tail()}")
            if time.monotonic() > deadline:
                raise LocalStackError(
                    f"The private Docker daemon did not answer within {timeout_seconds:g} s.\n{self._log_tail()}"
                )
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """Stop the daemon in good order; its images and volumes stay. Safe to call twice."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS + 5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def kill(self) -> None:
        """Kill the daemon and all its containers at once, as a crash would; ``start`` brings it back."""
        pid = self.pid
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
            self._process = None

    @property
    def pid(self) -> int | None:
        """Process id of dockerd as this machine sees it, or ``None`` when it does not run."""
        if self._process is None or self._process.poll() is not None:
            return None
        # supervisor -> unshare -> dockerd, which is process 1 of its own namespace
        for unshare in dockerd.children(self._process.pid):
            for daemon in dockerd.children(unshare):
                return daemon
        return None

    def ensure_busybox(self) -> str:
        """Make sure that the image ``busybox`` is there, and give its id.

        Raises:
            LocalStackError: it can neither be pulled nor made from the machine's own busybox.
        """
        return busybox.ensure(self.docker_url, timeout_seconds=PULL_SECONDS)

    def _answers(self) -> bool:
        try:
            Engine(self.docker_url, _PING_SECONDS).version()
        except (EngineUnavailable, Refused):
            return False
        return True

    def _log_tail(self) -> str:
        try:
            text = self.log_path.read_text("utf-8", "replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-5:])


def check_machine(folder: Path) -> None:
    """Check that a private daemon can run here.

    Raises:
        LocalStackError: it cannot; the message says why and what to do.
    """
    if os.geteuid() != 0:
        raise LocalStackError(
            "A private Docker daemon needs root. Run as root, or start Docker yourself and set DCCF_DOCKER_URL."
        )
    for tool, package in _TOOLS.items():
        if shutil.which(tool) is None:
            raise LocalStackError(
                f"{tool} is not installed. Install {package}, or set DCCF_DOCKER_URL to a Docker daemon."
            )
    if Path("/run") in folder.resolve().parents:
        raise LocalStackError(f"{folder}: the private Docker daemon hides /run; choose a folder elsewhere.")
    if len(os.fsencode(folder / "docker.sock")) > _SOCKET_PATH_MAX:
        raise LocalStackError(f"{folder}: the path is too long for a socket; choose a shorter one.")


def serve(folder: Path, *, own_network: bool = True) -> int:
    """Run the daemon in the foreground until SIGTERM, SIGINT or the death of the parent process.

    Gives the exit code: 0 when it was told to stop, 1 when dockerd ended by itself.

    Raises:
        LocalStackError: it cannot run here, or another daemon uses the folder.
    """
    parent = os.getppid()
    stopping = _note_signals()
    check_machine(folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / "data").mkdir(mode=0o711, exist_ok=True)
    with _locked(folder), (folder / "dockerd.log").open("wb") as log:
        parent_group = cgroups.name_for(folder)
        cgroups.remove(parent_group)
        cgroups.limit_builds(parent_group)
        with contextlib.suppress(FileNotFoundError):
            (folder / "docker.sock").unlink()
        process = dockerd.spawn(folder, own_network=own_network, log_fd=log.fileno())
        try:
            while process.poll() is None and not stopping and os.getppid() == parent:
                time.sleep(_POLL_SECONDS)
            ended_by_itself = process.poll() is not None
        finally:
            # Nobody waits for an orderly end when the parent is gone.
            dockerd.end(process, patience_seconds=STOP_SECONDS if os.getppid() == parent else 0)
            cgroups.remove(parent_group)
    return 1 if ended_by_itself else 0


def _note_signals() -> list[int]:
    """Collect SIGTERM and SIGINT in a list instead of dying from them."""
    seen: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        seen.append(number)

    signal.signal(signal.SIGTERM, note)
    signal.signal(signal.SIGINT, note)
    return seen


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LocalStackError(f"{folder}: another private Docker daemon uses this folder.") from error
        yield


def main() -> int:
    """Run as a program: the daemon of one folder, in the foreground."""
    parser = argparse.ArgumentParser(prog="python -m dccf.local.daemon", description=serve.__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where images, volumes, log and socket are kept")
    parser.add_argument("--host-network", action="store_true", help="let the daemon reach registries")
    arguments = parser.parse_args()
    try:
        return serve(arguments.folder, own_network=not arguments.host_network)
    except LocalStackError as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
