"""Time limits for waiting and as a whole, and retries for some exit codes."""

from __future__ import annotations

import pytest

from dccf.config import Settings
from dccf.lifecycle import attempts, leases
from dccf.lifecycle.attempts import Holder
from dccf.lifecycle.endings import Ending, took_too_long
from dccf.models import JobState, Reason
from dccf.store.database import Database
from tests.integration.lifecycle.conftest import SubmitJob
from tests.integration.lifecycle.test_life import FAILED, LOST, claimed

pytestmark = pytest.mark.postgres


def test_a_waiting_job_past_its_limit_as_a_whole_fails_with_the_limits_name_and_length(
    database: Database, settings: Settings, submit_job: SubmitJob, me: Holder
) -> None:
    job = submit_job({"job_timeout_seconds": 0.001})
    submit_job({"job_timeout_seconds": 60})
    assert attempts.claim(database, settings, job.id, me) is None
    (failed,) = leases.fail_overdue(database)
    assert (failed.id, failed.reason) == (job.id, Reason.JOB_TIMED_OUT)
    assert "took longer than 0.001 s (job_timeout_seconds)" in failed.message


def test_a_running_job_past_its_limit_as_a_whole_is_found_by_its_worker_and_not_retried(
    database: Database, settings: Settings, submit_job: SubmitJob, me: Holder
) -> None:
    job = submit_job({"job_timeout_seconds": 0.2, "retries": 5})
    other = submit_job()
    lease = claimed(database, settings, job.id, me)
    claimed(database, settings, other.id, me)
    with database.begin() as tx:
        tx.exec_driver_sql("SELECT pg_sleep(0.25)")
    assert leases.find_overdue(database, me) == {job.id}
    ended = attempts.finish(database, settings, lease, took_too_long(job))
    assert (ended.state, ended.reason) == (JobState.FAILED, Reason.JOB_TIMED_OUT)


def test_the_queues_limit_is_for_the_first_start_only(
    database: Database, settings: Settings, submit_job: SubmitJob, me: Holder
) -> None:
    job = submit_job({"queue_timeout_seconds": 0.2})
    attempts.finish(database, settings, claimed(database, settings, job.id, me), LOST)
    with database.begin() as tx:
        tx.exec_driver_sql("SELECT pg_sleep(0.25)")
    assert leases.fail_overdue(database) == []


def test_retries_may_be_for_some_exit_codes_only(
    database: Database, settings: Settings, submit_job: SubmitJob, me: Holder
) -> None:
    named = submit_job({"retries": 1, "retry_exit_codes": [3, 75]})
    others = submit_job({"retries": 1, "retry_exit_codes": [75]})
    slow = submit_job({"retries": 1, "retry_exit_codes": [137]})
    assert attempts.finish(database, settings, claimed(database, settings, named.id, me), FAILED).state == "queued"
    assert attempts.finish(database, settings, claimed(database, settings, others.id, me), FAILED).state == "failed"
    timed_out = Ending(JobState.FAILED, "ran too long", Reason.TIMED_OUT, 137)
    assert attempts.finish(database, settings, claimed(database, settings, slow.id, me), timed_out).state == "failed"
