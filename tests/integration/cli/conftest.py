"""A real ``dccf api`` process, a worker that plays jobs, and the command line as people run it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from dccf.config import Settings
from dccf.lifecycle import attempts, cancel
from dccf.lifecycle.endings import Ending
from dccf.models import JobState
from dccf.store import jobs
from dccf.store.database import Database
from tests.integration.api.playing import HOLDER, Attempt, play

TOKEN = "the-bootstrap-token"
_START_SECONDS = 30.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True)
class Cli:
    """Runs ``dccf`` with an environment of its own."""

    environ: dict[str, str]
    folder: Path

    def __call__(self, *args: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "dccf", *args],
            env=self.environ | environ,
            cwd=self.folder,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=60,
            check=False,
        )

    def start(self, *args: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "dccf", *args],
            env=self.environ,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture
def bare_environ(tmp_path: Path) -> dict[str, str]:
    """Nothing of the developer's own settings, and a home that is empty."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DCCF_", "XDG_"))}
    root = str(Path(__file__).parents[3])
    return kept | {"HOME": str(tmp_path), "PYTHONPATH": root, "DCCF_STATE_FOLDER": str(tmp_path / "state")}


@pytest.fixture
def server_environ(bare_environ: dict[str, str], settings: Settings) -> dict[str, str]:
    return bare_environ | {
        "DCCF_DATABASE_URL": settings.database_url.replace("postgresql+psycopg2://", "postgresql://"),
        "DCCF_BROKER_URL": settings.broker_url,
        "DCCF_BROKER_FOLDER": str(settings.broker_folder),
        "DCCF_BOOTSTRAP_TOKEN": TOKEN,
        "DCCF_API_PORT": str(free_port()),
        "DCCF_MAX_UPLOAD_BYTES": "8m",
        "DCCF_RUNNER": "fake",
    }


@pytest.fixture
def api_url(server_environ: dict[str, str], tmp_path: Path) -> Iterator[str]:
    url = f"http://127.0.0.1:{server_environ['DCCF_API_PORT']}"
    with (tmp_path / "api.log").open("w") as log:
        process = subprocess.Popen([sys.executable, "-m", "dccf", "api"], env=server_environ, stdout=log, stderr=log)
    try:
        wait_until_up(url, process)
        yield url
    finally:
        process.terminate()
        process.wait(60)


def wait_until_up(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"{url}/healthz", timeout=1).close()
        except urllib.error.URLError:
            time.sleep(0.05)
        else:
            return
    pytest.fail("dccf api did not come up")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a job in it."""
    made = tmp_path / "job"
    made.mkdir()
    (made / "Dockerfile").write_text("FROM busybox\n")
    (made / "data.txt").write_text("data")
    return made


@pytest.fixture
def cli(bare_environ: dict[str, str], api_url: str, tmp_path: Path) -> Cli:
    return Cli(bare_environ | {"DCCF_API_URL": api_url, "DCCF_TOKEN": TOKEN}, tmp_path)


@pytest.fixture
def lonely_cli(bare_environ: dict[str, str], tmp_path: Path) -> Cli:
    """A command line whose API is not running."""
    return Cli(bare_environ | {"DCCF_API_URL": f"http://127.0.0.1:{free_port()}"}, tmp_path)


@contextmanager
def _playing(database: Database, settings: Settings) -> Iterator[None]:
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.02):
            with database.begin() as tx:
                queued = jobs.find(tx, None, [JobState.QUEUED]).items
            for job in queued:
                _play_one(database, settings, job.id, job.spec.env)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _play_one(database: Database, settings: Settings, job_id: object, env: dict[str, str]) -> None:
    if "UNTIL_CANCELLED" in env:
        attempt = Attempt.claim(database, settings, str(job_id))
        attempt.run()
        while attempt.lease.job_id not in cancel.find_requests(database, HOLDER):
            time.sleep(0.02)
        attempts.finish(database, settings, attempt.lease, Ending(JobState.CANCELLED, "stopped"))
        return
    play(
        database,
        settings,
        str(job_id),
        stdout=[b"to stdout\n"],
        stderr=[b"to stderr\n"],
        files={"out.txt": b"result", "sub/two.bin": b"\0" * 3_000_000},
        exit_code=int(env.get("CODE", "0")),
    )


@pytest.fixture
def worker(database: Database, settings: Settings) -> Iterator[None]:
    with _playing(database, settings):
        yield


@pytest.fixture
def submitted(cli: Cli, folder: Path) -> str:
    """The id of a job that waits."""
    return cli("run", "--detach", str(folder)).stdout.strip()
