"""The other verbs, over a real API."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dccf.config import Settings
from dccf.store import fleet
from dccf.store.database import Database
from tests.integration.api.playing import play
from tests.integration.cli.conftest import Cli

pytestmark = pytest.mark.postgres


@pytest.fixture
def done_job(submitted: str, database: Database, settings: Settings) -> str:
    play(database, settings, submitted, stdout=[b"\xff out\n"], stderr=[b"err\n"], files={"a.txt": b"A", "d/b": b"B"})
    return submitted


def test_jobs_are_listed_as_a_table_as_ids_and_as_json(cli: Cli, submitted: str) -> None:
    table = cli("ps").stdout.splitlines()

    assert table[0].split() == ["JOB", "STATE", "AGE", "QUEUE", "LABELS", "MESSAGE"]
    assert table[1].startswith(f"{submitted}  queued")
    assert cli("ps", "-q").stdout.split() == [submitted]
    assert [job["id"] for job in json.loads(cli("ps", "--json").stdout)] == [submitted]
    assert cli("ps", "-q", "--state", "failed").stdout == ""


def test_a_job_is_cancelled_and_then_waiting_for_it_says_so(cli: Cli, submitted: str) -> None:
    assert "is cancelled" in cli("cancel", submitted).stdout
    assert cli("wait", submitted).returncode == 130


def test_waiting_may_be_limited(cli: Cli, submitted: str) -> None:
    done = cli("wait", submitted, "--timeout", "0.1")

    assert done.returncode == 124
    assert "is still queued" in done.stderr


def test_what_a_job_printed_comes_out_where_it_did(cli: Cli, done_job: str) -> None:
    done = cli("logs", done_job, PYTHONIOENCODING="latin-1")
    followed = cli("logs", "-f", "--stream", "stderr", done_job)

    assert done.stdout.encode(errors="surrogateescape") == b"\xff out\n"
    assert done.stderr == "err\n"
    assert cli("logs", "--stream", "stderr", done_job).stdout == ""
    assert followed.stderr == "err\n"


def test_status_history_and_inspect_tell_of_a_job(cli: Cli, done_job: str) -> None:
    assert cli("status", done_job).stdout == "succeeded: it ended\n"
    assert "submitted by admin" in cli("history", done_job).stdout
    inspected = json.loads(cli("inspect", done_job).stdout)
    assert inspected["job"]["id"] == done_job
    assert [attempt["outcome"] for attempt in inspected["attempts"]] == ["succeeded"]


def test_a_job_is_made_again_and_its_new_id_is_printed(cli: Cli, done_job: str) -> None:
    made = cli("rerun", done_job).stdout.strip()

    assert made != done_job
    assert cli("status", made).stdout == "queued: waits for a worker of queue default\n"


def test_files_are_brought_all_or_one_or_a_folder_or_to_stdout(cli: Cli, done_job: str) -> None:
    assert cli("get", done_job).returncode == 0
    assert (cli.folder / "output" / "d" / "b").read_bytes() == b"B"
    assert cli("get", f"{done_job}/a.txt", "-o", "named.txt").stdout == "named.txt\n"
    assert (cli.folder / "named.txt").read_bytes() == b"A"
    assert cli("get", f"{done_job}/d", "-o", "only").stdout == "only/d/b\n"
    assert cli("get", f"{done_job}/a.txt", "-o", "-").stdout == "A"
    missing = cli("get", f"{done_job}/nope")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "it has: a.txt, d/b" in missing.stderr


def test_a_file_that_cannot_be_written_is_one_clear_line(cli: Cli, done_job: str) -> None:
    (cli.folder / "output").write_text("in the way")

    done = cli("get", done_job)

    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


def test_workers_are_listed(cli: Cli, database: Database) -> None:
    with database.begin() as tx:
        fleet.beat_worker(
            tx, "w-1", "life", queues=["default", "gpu"], slots=4, engine="fake", version="0", message="no Docker"
        )

    assert cli("workers").stdout.splitlines()[1].split()[:4] == ["w-1", "alive", "4", "default,gpu"]


def test_an_api_that_is_away_is_exit_code_69(lonely_cli: Cli) -> None:
    done = lonely_cli("ps")

    assert done.returncode == 69
    assert "cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_token_is_exit_code_77(cli: Cli) -> None:
    assert cli("ps", DCCF_TOKEN="wrong").returncode == 77


def test_an_unknown_job_is_one_clear_line(cli: Cli) -> None:
    done = cli("status", "0198c0de-0000-7000-8000-00000000abcd")

    assert (done.returncode, done.stderr) == (1, "dccf: there is no job 0198c0de-0000-7000-8000-00000000abcd\n")


def test_a_token_that_was_made_lets_its_owner_in(cli: Cli, server_environ: dict[str, str], submitted: str) -> None:
    made = cli("token", "create", "--owner", "ada", "--name", "test", **server_environ)

    assert made.returncode == 0, made.stderr
    assert cli("ps", "-q", DCCF_TOKEN=made.stdout.strip()).stdout == ""


def test_a_revoked_token_no_longer_lets_anybody_in(cli: Cli, server_environ: dict[str, str]) -> None:
    token = cli(
        "token", "create", "--owner", "eve", "--name", "laptop", "--days", "1", **server_environ
    ).stdout.strip()
    token_id = token.split("_")[1]
    cli("ps", DCCF_TOKEN=token)

    listed = json.loads(cli("token", "list", "--owner", "eve", "--json", **server_environ).stdout)
    revoked = cli("token", "revoke", token_id, **server_environ)
    again = cli("token", "revoke", token_id, **server_environ)

    assert [(one["id"], one["name"], one["last_used_at"] is None) for one in listed] == [(token_id, "laptop", False)]
    assert token.split("_", 2)[2] not in json.dumps(listed)
    assert revoked.returncode == 0, revoked.stderr
    assert cli("ps", DCCF_TOKEN=token).returncode == 77
    assert (again.returncode, "dccf token list" in again.stderr) == (1, True)
    assert "revoked" in cli("token", "list", "--owner", "eve", **server_environ).stdout


def test_a_second_api_on_the_same_port_says_so(cli: Cli, server_environ: dict[str, str]) -> None:
    done = cli("api", **server_environ)

    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1 port {server_environ['DCCF_API_PORT']}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_without_its_settings_says_which(lonely_cli: Cli) -> None:
    for command in (["api"], ["worker"], ["controller"], ["db", "upgrade"]):
        done = lonely_cli(*command)
        assert done.returncode == 2
        assert "DCCF_DATABASE_URL is not set" in done.stderr


def test_migrating_again_is_no_harm(cli: Cli, server_environ: dict[str, str]) -> None:
    assert cli("db", "upgrade", **server_environ).returncode == 0


def test_doctor_without_server_settings_looks_at_the_api_only(cli: Cli, lonely_cli: Cli) -> None:
    good, bad = cli("doctor"), lonely_cli("doctor")

    assert good.returncode == 0, good.stdout
    assert bad.returncode == 1
    assert bad.stdout.startswith("fail  api")


def test_doctor_with_server_settings_names_what_is_missing(cli: Cli, server_environ: dict[str, str]) -> None:
    done = cli("doctor", "--json", **server_environ)

    found = {one["name"]: one["status"] for one in json.loads(done.stdout)}
    assert done.returncode == 1
    assert found["database"] == found["migrations"] == found["broker"] == found["token"] == "ok"
    assert found["workers"] == found["controllers"] == "fail"


def test_the_url_and_token_of_a_running_stack_are_found_by_themselves(
    cli: Cli, submitted: str, bare_environ: dict[str, str]
) -> None:
    state = Path(bare_environ["DCCF_STATE_FOLDER"])
    state.mkdir()
    url, token = cli.environ["DCCF_API_URL"], cli.environ["DCCF_TOKEN"]
    (state / "client.json").write_text(json.dumps({"url": url, "token": token}))

    assert Cli(bare_environ, cli.folder)("ps", "-q").stdout.split() == [submitted]


def test_output_that_nobody_reads_is_no_error(cli: Cli, submitted: str) -> None:
    process = cli.start("inspect", submitted)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    errors = process.stderr.read()
    process.stderr.close()
    process.wait()

    assert "Traceback" not in errors


def test_a_folder_is_scheduled_shown_changed_run_and_removed(cli: Cli, folder: Path, submitted: str) -> None:
    made = cli(
        "schedules", "add", "nightly", "--cron", "0 3 * * *", "--timezone", "Asia/Tokyo", str(folder), "-l", "team=x"
    )
    assert made.stdout.startswith("nightly: next at 20"), made.stderr
    assert made.stdout.endswith(" 03:00 JST\n")
    job_id = cli("schedules", "run", "nightly").stdout.strip()
    shown = cli("schedules", "show", "nightly").stdout
    assert "nightly of admin: 0 3 * * * (Asia/Tokyo), missed: skip\noptions: labels={'team': 'x'}\n" in shown
    assert shown.count("03:00 JST") == 5
    assert f"{job_id}  queued" in shown
    assert cli("schedules", "edit", "nightly", "--cron", "30 4 * * *").stdout.endswith(" 04:30 JST\n")
    cli("schedules", "pause", "nightly")
    assert "paused; to go on: dccf schedules resume nightly" in cli("schedules", "show", "nightly").stdout
    assert cli("schedules", "rm", "nightly", "--owner", "admin").stdout == "nightly is removed\n"
    of_job = cli("schedules", "add", "again", "--cron", "0 3 * * *", "--job", submitted)
    assert of_job.stdout.endswith(" 03:00 UTC\n")


def test_what_is_not_there_yet_is_said_with_what_to_do(cli: Cli, submitted: str) -> None:
    brought = cli("get", submitted)
    assert (brought.returncode, brought.stdout) == (1, "")
    assert "is queued: waits for a worker of queue default; its files are there when it has ended" in brought.stderr
    assert cli("logs", submitted).stderr.startswith("nothing yet, the job is queued: waits for a worker")
    paused = cli("queues", "pause", "defualt")
    assert "no worker listens on defualt, and it has no jobs; the other queues: default" in paused.stderr
