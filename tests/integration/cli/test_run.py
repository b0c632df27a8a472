"""``dccf run`` from end to end, over a real API."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dccf.config import Settings
from dccf.models import Reason, Stream
from dccf.store.database import Database
from tests.integration.api.playing import Attempt
from tests.integration.cli.conftest import Cli

pytestmark = pytest.mark.postgres


@pytest.mark.usefixtures("worker")
def test_stdout_is_the_jobs_own_and_its_files_come_where_they_are_wanted(cli: Cli, folder: Path) -> None:
    done = cli("run", str(folder), "-o", "out")

    assert done.returncode == 0, done.stderr
    assert done.stdout == "to stdout\n"
    assert "to stderr" in done.stderr
    assert (cli.folder / "out" / "out.txt").read_bytes() == b"result"
    assert (cli.folder / "out" / "sub" / "two.bin").read_bytes() == b"\0" * 3_000_000


@pytest.mark.usefixtures("worker")
def test_without_a_folder_nothing_is_written_but_said_how(cli: Cli, folder: Path) -> None:
    before = sorted(cli.folder.iterdir())
    done = cli("run", str(folder))

    assert sorted(cli.folder.iterdir()) == before
    assert "to get them: dccf get " in done.stderr


@pytest.mark.usefixtures("worker")
def test_the_exit_code_is_the_containers(cli: Cli, folder: Path) -> None:
    done = cli("run", str(folder), "-e", "CODE=42")

    assert done.returncode == 42
    assert "failed: exit_nonzero" in done.stderr


@pytest.mark.usefixtures("worker")
def test_how_the_job_is_run_is_said_by_options(cli: Cli, folder: Path) -> None:
    options = "--user 1000:users --pids 99 --tmp 1m --shm 64k --ulimit nofile=5000 --ulimit stack=1000000"
    done = cli("run", str(folder), "--json", *options.split(), "--secret", "TOKEN=registry-token")

    assert done.returncode == 0, done.stderr
    spec = json.loads(done.stdout)["job"]["spec"]
    assert (spec["user"], spec["pids"], spec["tmp"], spec["shm"]) == ("1000:users", 99, 1 << 20, 1 << 16)
    assert (spec["ulimits"], spec["secrets"]) == ({"nofile": 5000, "stack": 1_000_000}, {"TOKEN": "registry-token"})


@pytest.mark.usefixtures("worker")
def test_with_json_stdout_is_one_object(cli: Cli, folder: Path) -> None:
    done = cli("run", str(folder), "--json", "--label", "a=b", "--memory", "64m")

    result = json.loads(done.stdout)
    assert result["job"]["state"] == "succeeded"
    assert result["job"]["spec"]["labels"] == {"a": "b"}
    assert result["job"]["spec"]["memory"] == 64 << 20
    assert [artifact["path"] for artifact in result["artifacts"]] == ["out.txt", "sub/two.bin"]


def test_a_broken_build_says_which_line_and_ends_with_125(
    cli: Cli, submitted: str, database: Database, settings: Settings
) -> None:
    attempt = Attempt.claim(database, settings, submitted)
    attempt.print(b"cat: no such file\n", Stream.BUILD_STDERR)
    attempt.end(None, Reason.BUILD_FAILED, "line 3: RUN cat /nope: exit code 1")

    waited = cli("wait", submitted)

    assert waited.returncode == 125
    assert "build_failed: line 3: RUN cat /nope" in waited.stderr
    assert cli("logs", "--build", submitted).stderr == "cat: no such file\n"


@pytest.mark.usefixtures("worker")
def test_the_first_interrupt_cancels_the_job(cli: Cli, folder: Path) -> None:
    process = cli.start("run", str(folder), "-e", "UNTIL_CANCELLED=1")
    assert process.stderr is not None
    seen = ""
    for line in process.stderr:
        seen += line
        if line.startswith("running"):
            process.send_signal(signal.SIGINT)
    process.communicate()

    assert process.returncode == 130, seen
    job_id = seen.partition("job ")[2].splitlines()[0]
    assert json.loads(cli("status", "--json", job_id).stdout)["state"] == "cancelled"


def test_what_is_sent_is_the_folder_without_what_it_ignores_and_the_files_named(cli: Cli, folder: Path) -> None:
    (folder / ".dockerignore").write_text("*.tmp\nnode_modules\n")
    (folder / "x.tmp").write_text("x")
    (folder / "run.sh").write_text("x")
    (folder / "run.sh").chmod(0o755)
    (folder / "node_modules").mkdir()
    (folder / "node_modules" / "a").write_text("x")
    (cli.folder / "more").mkdir()
    (cli.folder / "more" / "ä b.txt").write_text("x")

    job_id = cli("run", "--detach", str(folder), "-f", "more").stdout.strip()

    bundle = json.loads(_bundle(cli, job_id))["items"]
    assert {file["path"]: oct(file["mode"]) for file in bundle} == {
        ".dockerignore": "0o644",
        "Dockerfile": "0o644",
        "data.txt": "0o644",
        "more/ä b.txt": "0o644",
        "run.sh": "0o755",
    }


def _bundle(cli: Cli, job_id: str) -> str:
    url = f"{cli.environ['DCCF_API_URL']}/v1/jobs/{job_id}/bundle"
    header = f"Authorization: Bearer {cli.environ['DCCF_TOKEN']}"
    return subprocess.run(["curl", "-fsS", "-H", header, url], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "there is no file or folder 'nowhere'"),
        (["."], "there is no Dockerfile in '.'"),
        (["job", "--bogus"], "No such option"),
        (["job", "-e", "NOVALUE"], "is not KEY=VALUE"),
        (["job", "--memory", "lots"], "memory: 'lots' is not a size"),
        (["job", "--profile", "compat"], "profile: 'compat' is not allowed here"),
        (["job", "--ulimit", "nofile"], "'nofile' is not KEY=VALUE"),
        (["job", "--runtime", "runsc"], "runtime: 'runsc' is not allowed here"),
        (["job", "--timeout", "-1"], "timeout_seconds: Input should be greater than 0"),
        (["job", "-f", "missing.txt"], "there is no file or folder 'missing.txt'"),
    ],
)
def test_a_mistake_is_one_clear_line_and_exit_code_2(cli: Cli, folder: Path, arguments: list[str], says: str) -> None:
    done = cli("run", *arguments)

    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_an_upload_over_the_limit_is_refused_with_the_limit(cli: Cli, folder: Path) -> None:
    (folder / "big").write_bytes(b"\0" * (20 << 20))

    done = cli("run", str(folder))

    assert done.returncode == 2
    assert f"larger than {8 << 20} bytes" in done.stderr


def test_the_demo_over_plain_http_prints_the_id(cli: Cli) -> None:
    script = Path(__file__).parents[3] / "examples" / "demo-request.py"
    done = subprocess.run(
        [sys.executable, str(script)], env=cli.environ, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(cli("status", "--json", done.stdout.strip()).stdout)["state"] == "queued"
