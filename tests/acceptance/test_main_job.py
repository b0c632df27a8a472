"""The main job, end to end, as people use it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from dccf.models import JobState, Reason
from tests.acceptance.conftest import Stack, free_port
from tests.processes import clean_environment, wait_for

pytestmark = [pytest.mark.stack, pytest.mark.docker, pytest.mark.postgres]

EXAMPLES = Path(__file__).parents[2] / "examples"
CANCEL_LIMIT_SECONDS = 1.0


def test_hello_says_hello_and_leaves_its_file(stack: Stack, tmp_path: Path) -> None:
    done = stack.dccf("run", str(EXAMPLES / "hello"), "-o", str(tmp_path))
    assert (done.returncode, (tmp_path / "output.txt").read_text().strip()) == (0, "Test success!"), done.stderr
    assert "Hello from a container." in done.stdout


def test_words_are_counted_over_files_in_folders(stack: Stack, tmp_path: Path) -> None:
    done = stack.dccf("run", str(EXAMPLES / "wordcount"), "-o", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "counts.txt").read_text()


def test_a_tree_comes_back_with_its_sub_folders(stack: Stack, tmp_path: Path) -> None:
    done = stack.dccf("run", str(EXAMPLES / "tree"), "-o", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "reports" / "2030" / "01" / "day 1.txt").is_file()


def test_an_image_with_roots_habits_and_a_secret_runs_where_it_is_asked_for(stack: Stack, tmp_path: Path) -> None:
    secret = stack.folder / "secrets" / "ada" / "token"
    secret.parent.mkdir(parents=True)
    secret.write_text("correct-horse-battery\n")
    dockerfile = (
        'FROM busybox\nCMD touch /var/state && chown 1234 /var/state && echo "$TOKEN" && stat -c %u /var/state'
    )
    (tmp_path / "Dockerfile").write_text(dockerfile)

    strict = stack.dccf("run", str(tmp_path), "--secret", "TOKEN=token")
    compat = stack.dccf("run", str(tmp_path), "--secret", "TOKEN=token", "--profile", "compat")

    assert (strict.returncode, strict.stdout) == (1, "")
    assert "profile: compat lets it" in strict.stderr
    assert (compat.returncode, compat.stdout) == (0, "***\n1234\n"), compat.stderr
    with stack.client() as client:
        job = client.submit(dockerfile, secrets={"TOKEN": "token"}, profile="compat").wait(60).job
        assert job.state is JobState.SUCCEEDED
        unknown = client.submit(dockerfile, secrets={"TOKEN": "other"}).wait(60).job
        assert "'other' is not there for owner ada" in unknown.message


def job_with_label(stack: Stack, label: str) -> str:
    with stack.client() as client:
        (job,) = client.list_jobs(labels={"test": label}).jobs
        return str(job.id)


def flower_says(stack: Stack, job_id: str) -> dict[str, str]:
    with urllib.request.urlopen(f"http://127.0.0.1:{stack.flower_port}/api/tasks?limit=1000") as answer:
        found: dict[str, str] = json.load(answer).get(job_id, {})
        return found


def async_result_says(stack: Stack, job_id: str) -> str:
    script = (
        "import sys; from dccf.tasks import run_dockerfile; r = run_dockerfile.AsyncResult(sys.argv[1]);"
        "print(r.state, repr(r.result))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, job_id],
        env={**clean_environment(), **stack.environment()},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


def test_exit_code_3_is_exit_code_3_everywhere(stack: Stack) -> None:
    done = stack.dccf("run", str(EXAMPLES / "fails"), "--label", "test=fails")
    assert done.returncode == 3, done.stderr
    job_id = job_with_label(stack, "fails")
    with stack.client() as client:
        job = client.job(job_id).refresh()
    assert (job.state, job.reason, job.exit_code) == (JobState.FAILED, Reason.EXIT_NONZERO, 3)
    assert "FAILURE JobFailed" in async_result_says(stack, job_id)
    shown = wait_for("the failure in Flower", lambda: flower_says(stack, job_id).get("exception"))
    assert "reason='exit_nonzero', exit_code=3" in shown


def test_a_broken_build_names_the_line_and_the_cause_everywhere(stack: Stack) -> None:
    done = stack.dccf("run", str(EXAMPLES / "broken-build"), "--label", "test=broken")
    assert done.returncode == 125
    assert "line 3: RUN cat /there/is/no/such/file" in done.stderr
    job_id = job_with_label(stack, "broken")
    with stack.client() as client:
        job = client.job(job_id).refresh()
    assert (job.state, job.reason, job.exit_code) == (JobState.FAILED, Reason.BUILD_FAILED, None)
    assert "reason='build_failed'" in async_result_says(stack, job_id)
    shown = wait_for("the failure in Flower", lambda: flower_says(stack, job_id).get("exception"))
    assert "line 3" in shown


def test_the_originals_demo_request_works(stack: Stack) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "demo-request.py"), f"http://127.0.0.1:{stack.api_port}", "--wait"],
        env={**clean_environment(), "DCCF_TOKEN": (stack.folder / "token").read_text()},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Test success!" in done.stdout


def submit(stack: Stack, tmp_path: Path, dockerfile: str) -> str:
    (tmp_path / "Dockerfile").write_text(dockerfile)
    with stack.client() as client:
        return str(client.submit(tmp_path).id)


def test_a_running_job_is_cancelled_within_its_limit(stack: Stack, tmp_path: Path) -> None:
    job_id = submit(stack, tmp_path, "FROM busybox\nCMD echo ready; sleep 300\n")
    with stack.client() as client:
        handle = client.job(job_id)
        wait_for("the first line of log", lambda: b"ready" in b"".join(handle.read_log()))
        asked = time.monotonic()
        handle.cancel()
        wait_for("the end of the job", lambda: handle.refresh().state is JobState.CANCELLED)
    assert time.monotonic() - asked < 3 * CANCEL_LIMIT_SECONDS


def test_an_image_that_does_not_exist_is_named(stack: Stack, tmp_path: Path) -> None:
    job_id = submit(stack, tmp_path, "FROM no-such-image:1\n")
    with stack.client() as client:
        job = client.job(job_id).wait(120).refresh()
    assert job.state == JobState.FAILED
    assert job.reason in {Reason.IMAGE_NOT_FOUND, Reason.PULL_FAILED}
    assert "no-such-image" in job.message


def test_a_dockerfile_that_does_not_parse_names_its_line(stack: Stack, tmp_path: Path) -> None:
    job_id = submit(stack, tmp_path, "FROM busybox\nFLY away\n")
    with stack.client() as client:
        job = client.job(job_id).wait(60).refresh()
    assert job.state == JobState.FAILED
    assert "line 2" in job.message


def test_a_container_that_writes_nothing_succeeds_with_nothing(stack: Stack, tmp_path: Path) -> None:
    job_id = submit(stack, tmp_path, "FROM busybox\nCMD true\n")
    with stack.client() as client:
        handle = client.job(job_id).wait(60)
        assert (handle.refresh().state, handle.artifacts()) == (JobState.SUCCEEDED, ())


def test_a_chain_hands_its_files_on(stack: Stack) -> None:
    script = (
        "from celery import chain; from dccf.tasks import run_dockerfile as run;"
        "one = run.s(dockerfile='FROM busybox\\nCMD echo one > /output/a.txt\\n');"
        "two = run.s(dockerfile='FROM busybox\\nCOPY inputs /in\\nCMD cat /in/*/a.txt > /output/b.txt\\n');"
        "print(chain(one, two).apply_async().get(timeout=60)['job_id'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**clean_environment(), **stack.environment()},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with stack.client() as client:
        assert b"".join(client.job(done.stdout.strip()).read_artifact("b.txt")) == b"one\n"


def test_a_second_up_on_the_same_folder_says_so(stack: Stack) -> None:
    done = stack.dccf("up", "--folder", str(stack.folder), "--daemon", "private")
    assert done.returncode != 0
    assert "already runs" in done.stderr


def test_a_port_in_use_says_which_and_how_to_choose_another(stack: Stack, tmp_path: Path) -> None:
    ports = ["--api-port", str(stack.api_port), "--flower-port", str(free_port())]
    done = stack.dccf("up", "--folder", str(tmp_path), "--daemon", "private", *ports)
    assert done.returncode != 0
    assert f"port {stack.api_port}" in done.stderr
    assert "--api-port" in done.stderr


def test_no_docker_daemon_says_what_to_do(stack: Stack, tmp_path: Path) -> None:
    done = subprocess.run(
        ["dccf", "up", "--folder", str(tmp_path), "--api-port", str(free_port()), "--flower-port", str(free_port())],
        env={**clean_environment(), "DOCKER_HOST": f"unix://{tmp_path}/nothing.sock"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "--daemon private" in done.stderr


def test_doctor_finds_everything_in_place(stack: Stack) -> None:
    done = stack.dccf("doctor")
    assert done.returncode == 0, done.stdout + done.stderr
