"""The SDK over a real API, and over a network that is not to be trusted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dccf import errors
from dccf.client import Client, LogEvent
from dccf.config import Settings
from dccf.models import JobState, Reason
from dccf.store.database import Database
from tests.integration.api.playing import Attempt, play
from tests.integration.cli.conftest import TOKEN
from tests.integration.cli.flaky import flaky_proxy

pytestmark = pytest.mark.postgres

DOCKERFILE = "FROM busybox\n"


@pytest.fixture
def client(api_url: str) -> Iterator[Client]:
    with Client(api_url, TOKEN) as made:
        yield made


@pytest.mark.usefixtures("worker")
def test_a_job_is_submitted_followed_and_brought_home(client: Client, tmp_path: Path) -> None:
    job = client.submit(DOCKERFILE, {"a.txt": b"x"}, labels={"a": "b"})

    assert "".join(job.logs(follow=True)) == "to stdout\nto stderr\n"
    job.wait(60).raise_for_status()
    assert job.status() is JobState.SUCCEEDED
    assert "".join(job.logs()) == "to stdout\nto stderr\n"
    assert sorted(job.download(tmp_path / "out")) == [
        tmp_path / "out" / "out.txt",
        tmp_path / "out" / "sub" / "two.bin",
    ]


def test_a_failed_job_raises_with_its_reason_code_and_the_end_of_its_log(
    client: Client, database: Database, settings: Settings
) -> None:
    job = client.submit(DOCKERFILE)
    play(database, settings, job.id, stderr=[b"what is wrong\n"], exit_code=3)

    with pytest.raises(errors.JobFailed) as caught:
        job.wait().raise_for_status()

    assert (caught.value.reason, caught.value.exit_code) == (Reason.EXIT_NONZERO, 3)
    assert caught.value.log_tail == "what is wrong\n"


def test_a_cancelled_job_raises_and_one_that_runs_is_a_conflict(client: Client) -> None:
    job = client.submit(DOCKERFILE)

    with pytest.raises(errors.Conflict):
        job.raise_for_status()
    with pytest.raises(TimeoutError):
        job.wait(0)
    job.cancel()
    with pytest.raises(errors.JobCancelled):
        job.raise_for_status()


def test_a_problem_of_the_service_is_the_error_that_it_was(client: Client) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        client.submit(DOCKERFILE, cpus=-1)

    assert [one.pointer for one in caught.value.errors] == ["#/cpus"]
    with pytest.raises(errors.NotFound):
        client.job("0198c0de-0000-7000-8000-00000000abcd")


def test_a_submit_whose_answer_was_lost_makes_one_job(client: Client, api_url: str) -> None:
    with flaky_proxy(api_url, 10, 40) as proxy, Client(proxy.url, TOKEN) as unlucky:
        job = unlucky.submit(DOCKERFILE)

    assert proxy.connections == 3
    assert [str(one.id) for one in client.list_jobs().jobs] == [job.id]


def test_a_schedule_whose_answer_was_lost_is_made_and_no_conflict(client: Client, api_url: str) -> None:
    with flaky_proxy(api_url, 10, 40) as proxy, Client(proxy.url, TOKEN) as unlucky:
        made = unlucky.add_schedule("nightly", "30 3 * * *", DOCKERFILE, labels={"a": "b"})

    assert proxy.connections == 3
    assert client.schedules() == (made,)
    with pytest.raises(errors.Conflict, match="has a schedule named 'nightly' already"):
        client.add_schedule("nightly", "30 3 * * *", DOCKERFILE, labels={"a": "b"})


def test_a_log_goes_on_after_a_cut_without_a_gap_or_a_repetition(
    client: Client, api_url: str, database: Database, settings: Settings
) -> None:
    job = client.submit(DOCKERFILE)
    lines = [f"line {number}\n" for number in range(200)]
    play(database, settings, job.id, stdout=[line.encode() for line in lines])

    with flaky_proxy(api_url, 12_000, 15_000) as proxy, Client(proxy.url, TOKEN) as unlucky:
        handle = unlucky.job(job.id)
        followed = [event.text for event in handle.events() if isinstance(event, LogEvent)]

    assert followed == ["built\n", *lines]
    assert proxy.connections >= 3


def test_a_download_that_was_cut_leaves_nothing_half_done(
    client: Client, api_url: str, database: Database, settings: Settings, tmp_path: Path
) -> None:
    job = client.submit(DOCKERFILE)
    attempt = Attempt.claim(database, settings, job.id)
    attempt.run()
    attempt.leave({"big": b"\1" * 2_000_000})
    attempt.end()

    with (
        flaky_proxy(api_url, 500_000) as proxy,
        Client(proxy.url, TOKEN) as unlucky,
        pytest.raises(errors.ApiUnavailable),
    ):
        unlucky.job(job.id).download(tmp_path / "out")

    assert list((tmp_path / "out").iterdir()) == []
    assert client.job(job.id).download(tmp_path / "out")[0].stat().st_size == 2_000_000
