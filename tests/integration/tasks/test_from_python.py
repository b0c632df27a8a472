"""``run_dockerfile`` as people call it: results, canvas, revoke, names, and what happens when a worker dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from celery import chain, chord, group
from celery.canvas import Signature
from celery.exceptions import ChordError, TaskRevokedError
from sqlalchemy import text

from dccf import errors
from dccf.administration import OwnerLimits
from dccf.celery_app import app, dispatch
from dccf.config import Settings
from dccf.lifecycle import owners, removal
from dccf.models import Job, JobState, Reason
from dccf.store import artifacts, blobs, bundles, history
from dccf.store.database import Database
from dccf.store.outbox import Hint
from dccf.tasks import run_dockerfile
from tests.processes import DccfProcess, wait_for

pytestmark = [pytest.mark.postgres, pytest.mark.usefixtures("worker")]

PATIENCE = 60
Scripted = Callable[..., Signature]
JobOf = Callable[[str], Job]
Until = Callable[[str, Callable[[Job], bool]], Job]


def contents_of(job_id: str) -> dict[str, bytes]:
    with app.database.begin() as tx:
        files = artifacts.get_files(tx, UUID(job_id))
    return {file.path: b"".join(blobs.read(app.database, file.blob_id)) for file in files}


def test_a_result_is_a_view_of_the_job(job_of: JobOf) -> None:
    result = run_dockerfile.delay(
        dockerfile="FROM busybox\n",
        files={"data/a.txt": b"a", "b.txt": "b"},
        env={"DCCF_FAKE_OUTPUT": "out/x=hello"},
        labels={"kind": "test"},
    )
    got = result.get(timeout=PATIENCE)
    assert (result.id, "succeeded", 0, 1) == (got["job_id"], got["state"], got["exit_code"], got["artifact_count"])
    assert contents_of(result.id) == {"out/x": b"hello"}
    job = job_of(result.id)
    assert (job.state, job.owner, job.spec.labels) == (JobState.SUCCEEDED, "celery", {"kind": "test"})
    with app.database.begin() as tx:
        assert [file.path for file in bundles.get_files(tx, job.bundle_id)] == ["Dockerfile", "b.txt", "data/a.txt"]


def test_how_a_job_is_run_is_said_by_keywords(job_of: JobOf) -> None:
    asked: dict[str, Any] = {"user": "1000", "pids": 99, "ulimits": {"nofile": 5000}, "secrets": {"TOKEN": "token"}}
    result = run_dockerfile.delay(dockerfile="FROM busybox\n", tmp="1m", owner="ada", **asked)
    result.get(timeout=PATIENCE)

    spec = job_of(result.id).spec.model_dump()
    assert {name: spec[name] for name in (*asked, "tmp")} == {**asked, "tmp": 1 << 20}
    with pytest.raises(errors.InvalidRequest, match="profile: 'compat' is not allowed here"):
        run_dockerfile.delay(dockerfile="FROM busybox\n", profile="compat")


def test_files_may_be_a_folder(tmp_path: Path, job_of: JobOf) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "Dockerfile").write_text("FROM busybox\n")
    (tmp_path / "sub" / "run.sh").write_text("echo")
    result = run_dockerfile.delay(files=tmp_path)
    result.get(timeout=PATIENCE)
    with app.database.begin() as tx:
        files = bundles.get_files(tx, job_of(result.id).bundle_id)
    assert [file.path for file in files] == ["Dockerfile", "sub/run.sh"]


def test_a_failed_job_raises_with_reason_exit_code_and_the_logs_tail(scripted: Scripted) -> None:
    result = scripted(exit_code=3, stderr="no such flag").delay()
    with pytest.raises(errors.JobFailed) as caught:
        result.get(timeout=PATIENCE)
    assert (caught.value.reason, caught.value.exit_code, result.state) == ("exit_nonzero", 3, "FAILURE")
    assert "no such flag" in caught.value.log_tail


def test_options_that_are_wrong_are_named_before_anything_is_submitted(fleet_environment: dict[str, str]) -> None:
    with pytest.raises(errors.InvalidRequest, match="cpus"):
        run_dockerfile.delay(dockerfile="FROM busybox\n", cpus=-1)
    with pytest.raises(errors.InvalidRequest, match="colour"):
        run_dockerfile.delay(dockerfile="FROM busybox\n", colour="red")
    with pytest.raises(errors.InvalidRequest, match="no Dockerfile"):
        run_dockerfile.delay(files={"a": b""})
    with pytest.raises(errors.InvalidRequest, match="idempotency_key"):
        run_dockerfile.s(dockerfile="FROM busybox\n", idempotency_key="k")


def test_a_group_gives_all_results(scripted: Scripted) -> None:
    results = group(scripted(output=f"n={number}") for number in range(4)).apply_async()
    assert [result["exit_code"] for result in results.get(timeout=PATIENCE)] == [0, 0, 0, 0]


def test_the_next_job_of_a_chain_gets_its_parents_artefacts(scripted: Scripted, job_of: JobOf) -> None:
    result = chain(scripted(output="one=1"), scripted(output="two=2")).apply_async()
    result.get(timeout=PATIENCE)
    assert (UUID(result.parent.id),) == job_of(result.id).inputs


def test_an_immutable_step_takes_no_inputs(scripted: Scripted, job_of: JobOf) -> None:
    last = run_dockerfile.si(dockerfile="FROM busybox\n")
    result = chain(scripted(), last).apply_async()
    result.get(timeout=PATIENCE)
    assert job_of(result.id).inputs == ()


def test_the_body_of_a_chord_runs_once_after_all_parts(scripted: Scripted, job_of: JobOf) -> None:
    result = chord([scripted(output=f"n={number}") for number in range(3)], scripted(output="sum=6")).apply_async()
    result.get(timeout=PATIENCE)
    assert len(job_of(result.id).inputs) == 3


def test_a_failed_part_fails_the_chord(scripted: Scripted) -> None:
    result = chord([scripted(), scripted(exit_code=2)], scripted()).apply_async()
    with pytest.raises(ChordError, match="exit_nonzero"):
        app.AsyncResult(result.id).get(timeout=PATIENCE)


def test_a_failed_step_fails_the_rest_of_its_chain(scripted: Scripted) -> None:
    result = chain(scripted(exit_code=4), scripted()).apply_async()
    with pytest.raises(errors.JobFailed):
        result.get(timeout=PATIENCE)


def test_a_link_is_called_with_the_result(scripted: Scripted, until: Until) -> None:
    callback = scripted(output="linked=1")
    callback.set(task_id=str(uuid4()))
    scripted(output="first=1").apply_async(link=callback)
    wait_for("the linked job", lambda: app.backend.find_job(callback.id))
    until(callback.id, lambda job: job.state is JobState.SUCCEEDED)


def test_retries_are_given_only_when_asked_for(job_of: JobOf) -> None:
    result = run_dockerfile.delay(dockerfile="FROM busybox\n", env={"DCCF_FAKE_EXIT_CODE": "1"}, retries=1)
    with pytest.raises(errors.JobFailed):
        result.get(timeout=PATIENCE)
    assert job_of(result.id).fence == 2


def test_a_job_sent_by_name_is_submitted_by_the_worker(job_of: JobOf) -> None:
    task_id = str(uuid4())
    app.send_task("dccf.run_dockerfile", kwargs={"files": {"Dockerfile": "FROM busybox\n"}}, task_id=task_id)
    assert app.AsyncResult(task_id).get(timeout=PATIENCE)["state"] == "succeeded"
    assert job_of(task_id).state == JobState.SUCCEEDED


def test_a_job_sent_by_name_is_held_to_its_owners_limit(fleet_environment: dict[str, str]) -> None:
    owners.set_limits(app.database, app.settings, "held", OwnerLimits(queued=0))
    task_id = str(uuid4())
    call = {"files": {"Dockerfile": "FROM busybox\n"}, "owner": "held"}
    app.send_task("dccf.run_dockerfile", kwargs=call, task_id=task_id)
    with pytest.raises(errors.LimitReached, match="owner held has 0 jobs waiting, which is the limit"):
        app.AsyncResult(task_id).get(timeout=PATIENCE)
    assert app.backend.find_job(task_id) is None


def test_who_waits_for_a_job_that_is_removed_is_told(scripted: Scripted) -> None:
    result = scripted().delay()
    result.get(timeout=PATIENCE)
    removal.remove(app.database, UUID(result.id))
    with pytest.raises(errors.NotFound, match=f"job {result.id} was removed"):
        app.AsyncResult(result.id).get(timeout=PATIENCE)


def test_a_doubled_hint_runs_nothing_twice(scripted: Scripted, job_of: JobOf) -> None:
    result = scripted(sleep_seconds=1).delay()
    with app.database.begin() as tx:
        message = tx.execute(text("SELECT celery_message FROM job WHERE id = :id"), {"id": result.id}).scalar_one()
    for _ in range(5):
        dispatch.send(app, Hint(UUID(result.id), "default", message, 1))
    result.get(timeout=PATIENCE)
    wait_for(
        "the broker to be empty", lambda: not list(Path(app.settings.broker_folder or "").glob("*/*default.msg"))
    )
    assert job_of(result.id).fence == 1


def test_messages_carry_no_files_and_no_environment(fleet_environment: dict[str, str]) -> None:
    signature = run_dockerfile.s(dockerfile="FROM busybox\n# secret-file\n", env={"KEY": "secret-env"})
    assert list(signature.kwargs) == ["bundle"]
    result = signature.delay()
    with app.database.begin() as tx:
        message = tx.execute(text("SELECT celery_message FROM job WHERE id = :id"), {"id": result.id}).scalar_one()
    assert "secret" not in message
    assert json.loads(message)["body"][:2] == [[], {}]


def test_revoke_before_the_start_means_that_it_never_starts(scripted: Scripted, job_of: JobOf) -> None:
    result = scripted().apply_async(countdown=3600)
    result.revoke()
    with pytest.raises(TaskRevokedError):
        result.get(timeout=PATIENCE)
    job = job_of(result.id)
    assert (job.state, job.fence) == (JobState.CANCELLED, 0)


def test_revoke_leaves_a_running_job_alone_unless_it_shall_terminate(scripted: Scripted, until: Until) -> None:
    result = scripted(sleep_seconds=60).delay()
    until(result.id, lambda job: job.state is JobState.RUNNING)
    result.revoke()
    assert not until(result.id, lambda job: True).cancel_requested
    result.revoke(terminate=True)
    assert until(result.id, lambda job: job.state.is_final).state == JobState.CANCELLED
    assert result.state == "REVOKED"


def test_a_killed_pool_process_costs_an_attempt_and_nothing_else(
    scripted: Scripted, until: Until, worker: DccfProcess
) -> None:
    result = scripted(sleep_seconds=3).delay()
    until(result.id, lambda job: job.state is JobState.RUNNING)
    os.kill(running_child(worker, result.id), signal.SIGKILL)
    job = until(result.id, lambda job: job.state.is_final)
    with app.database.begin() as tx:
        reasons = [attempt.reason for attempt in history.get_attempts(tx, job.id)]
    assert (job.state, reasons) == (JobState.SUCCEEDED, [Reason.WORKER_LOST, None])


def running_child(worker: DccfProcess, job_id: str) -> int:
    """Find the pool process that runs a job: its log thread carries the job's id."""
    for child in Path(f"/proc/{worker.process.pid}/task").glob("*/children"):
        for pid in child.read_text().split():
            threads = [path.read_text().strip() for path in Path(f"/proc/{pid}/task").glob("*/comm")]
            if len(threads) > 1:
                return int(pid)
    raise AssertionError(f"no pool process runs {job_id}")


def test_a_killed_worker_loses_no_job(scripted: Scripted, until: Until, worker: DccfProcess) -> None:
    results = [scripted(sleep_seconds=2).delay() for _ in range(3)]
    until(results[0].id, lambda job: job.state is JobState.RUNNING)
    worker.kill()
    worker.restart()
    ended = [until(result.id, lambda job: job.state.is_final) for result in results]
    assert [job.state for job in ended] == [JobState.SUCCEEDED] * 3


def test_a_worker_killed_between_end_and_continuation_still_continues(
    scripted: Scripted, until: Until, job_of: JobOf, worker: DccfProcess
) -> None:
    """The job has ended but nothing was sent after it: the controller sends its message again."""
    following = scripted(output="after=1")
    following.set(task_id=str(uuid4()))
    first = scripted(output="before=1").apply_async(countdown=3600, link=following)
    with app.database.begin() as tx:
        tx.execute(
            text(
                "UPDATE job SET state = 'succeeded', exit_code = 0, fence = 1, finished_at = now(), hints = 0, "
                "hint_after = now() WHERE id = :id"
            ),
            {"id": first.id},
        )
    wait_for("the continuation", lambda: app.backend.find_job(following.id))
    assert until(following.id, lambda job: job.state.is_final).state == JobState.SUCCEEDED
    wait_for("the note that it was sent", lambda: not continuation_is_pending(first.id))


def test_a_continuation_that_could_not_be_sent_stays_pending(scripted: Scripted, worker: DccfProcess) -> None:
    missing_bundle = run_dockerfile.signature((), {"bundle": str(uuid4())}, immutable=True)
    result = scripted().apply_async(link=missing_bundle)
    assert result.get(timeout=PATIENCE)["state"] == "succeeded"
    wait_for("the worker to try", lambda: "there is no bundle" in worker.log_text())
    assert continuation_is_pending(result.id)


def continuation_is_pending(job_id: str) -> Any:
    with app.database.begin() as tx:
        statement = text("SELECT continuation_pending FROM job WHERE id = :id")
        return tx.execute(statement, {"id": job_id}).scalar()


def test_eager_mode_plays_the_fake_runner_without_any_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(app.conf, "task_always_eager", True)
    result = run_dockerfile.delay(dockerfile="FROM busybox\n", env={"DCCF_FAKE_OUTPUT": "x=1"})
    assert (result.get()["state"], result.get()["artifact_count"]) == ("succeeded", 1)
    failed = run_dockerfile.delay(dockerfile="FROM busybox\n", env={"DCCF_FAKE_EXIT_CODE": "3"})
    with pytest.raises(errors.JobFailed):
        failed.get()


def test_at_the_owners_queued_limit_delay_raises_and_says_what_to_do(fleet_environment: dict[str, str]) -> None:
    owners.set_limits(app.database, app.settings, "full", OwnerLimits(queued=0))
    with pytest.raises(errors.LimitReached, match="dccf limits set full --queued"):
        run_dockerfile.delay(dockerfile="FROM busybox\n", owner="full")


def test_a_running_job_past_its_limit_as_a_whole_is_stopped(scripted: Scripted, until: Until) -> None:
    result = scripted(sleep_seconds=60).clone(kwargs={"job_timeout_seconds": 5}).delay()
    job = until(result.id, lambda job: job.state.is_final)
    assert (job.reason, job.fence) == (Reason.JOB_TIMED_OUT, 1)


def test_a_program_that_submits_and_ends_at_once_has_sent_its_hint(
    fleet_environment: dict[str, str], database: Database, settings: Settings
) -> None:
    program = "from dccf.tasks import run_dockerfile; run_dockerfile.delay(dockerfile='FROM busybox')"
    changes = {"DCCF_DATABASE_URL": database.url, "DCCF_BROKER_FOLDER": str(settings.broker_folder)}
    subprocess.run([sys.executable, "-c", program], env={**os.environ, **changes}, check=True, timeout=60)
    assert settings.broker_folder is not None
    assert len(list((settings.broker_folder / "messages").iterdir())) == 1
