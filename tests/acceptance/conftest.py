"""The whole stack as people start it: ``dccf up`` with a Docker daemon of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from dccf.client import Client
from dccf.errors import LocalStackError
from dccf.local.daemon import check_machine
from dccf.runner.sdk import SdkClient
from tests.conftest import broker_for_stacks, missing
from tests.processes import DccfProcess, clean_environment, wait_for

#: Leases short enough to be waited for; everything else as people have it.
SETTINGS = {
    "DCCF_LEASE_SECONDS": "9",
    "DCCF_LEASE_RENEW_SECONDS": "2",
    "DCCF_RETRY_BACKOFF_SECONDS": "0.2",
    "DCCF_ALLOWED_PROFILES": "strict,compat",
    "DCCF_BOOTSTRAP_OWNER": "ada",
}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@dataclass(frozen=True)
class Stack:
    """A running ``dccf up``."""

    folder: Path
    api_port: int
    flower_port: int
    broker: str
    process: DccfProcess

    def client(self) -> Client:
        return Client(f"http://127.0.0.1:{self.api_port}", (self.folder / "token").read_text())

    def docker(self) -> SdkClient:
        return SdkClient(f"unix://{self.folder}/docker/docker.sock", version="1.41", timeout_seconds=20)

    def environment(self) -> dict[str, str]:
        """What a person's shell has after reading the stack's env file."""
        lines = (self.folder / "env").read_text().splitlines()
        return {name: value.strip("'") for name, _, value in (line.partition("=") for line in lines)}

    def dccf(self, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a command of the command line against this stack."""
        return subprocess.run(
            ["dccf", *arguments],
            env={**clean_environment(), "DCCF_STATE_FOLDER": str(self.folder)},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def main_process(self, name: str) -> int | None:
        """The process id of ``dccf NAME`` in this stack, without its children."""
        found = [pid for pid in self.processes() if _command(pid)[1:] == ["-m", "dccf", name]]
        parents = {pid: _parent(pid) for pid in found}
        return next((pid for pid, parent in parents.items() if parent not in found), None)

    def processes(self) -> list[int]:
        """All processes that belong to this stack: they name its folder in their arguments or environment."""
        mark = str(self.folder).encode()
        return [int(path.name) for path in Path("/proc").glob("[0-9]*") if mark in _words(path)]


def _words(process: Path) -> bytes:
    try:
        return process.joinpath("cmdline").read_bytes() + process.joinpath("environ").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""


def _command(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return []


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """A stack on Kafka; on a laptop without it, on the file broker."""
    with running_stack(broker_for_stacks()) as running:
        yield running


@contextmanager
def running_stack(broker: str) -> Iterator[Stack]:
    """``dccf up`` in a folder of its own while the block lasts; nothing of it is left afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="dccf-test-up-"))
    folder.chmod(0o755)  # PostgreSQL runs as another user when we are root
    try:
        check_machine(folder)
    except LocalStackError as error:
        shutil.rmtree(folder)
        missing(str(error))
    api_port, flower_port = free_port(), free_port()
    arguments = ["up", "--folder", str(folder), "--daemon", "private", "--broker", broker]
    arguments += ["--api-port", str(api_port), "--flower-port", str(flower_port), "--slots", "2"]
    settings = {**SETTINGS, "DCCF_SECRETS_FOLDER": str(folder / "secrets")}
    process = DccfProcess(arguments, settings, folder / "up.log")
    running = Stack(folder, api_port, flower_port, broker, process)

    def is_ready() -> bool:
        assert process.process.poll() is None, process.log_text()[-4000:]
        assert "not ready after" not in process.log_text(), process.log_text()[-4000:]
        return "DCCF is ready" in process.log_text()

    try:
        wait_for("the banner of dccf up", is_ready, 90)
        yield running
    finally:
        process.stop()
    left = [pid for pid in running.processes() if pid != os.getpid()]
    assert left == [], [_command(pid) for pid in left]
    shutil.rmtree(folder)
