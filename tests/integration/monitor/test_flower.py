"""Each of Flower's pages and buttons does what it says, on a real Kafka with a real worker."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery

from dccf.models import JobState
from dccf.store import fleet
from tests.integration.monitor.conftest import Flower, Worker
from tests.processes import wait_for

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]

StartWorker = Callable[[str], Worker]
TASK = "dccf.run_dockerfile"


def until_state(flower: Flower, job_id: Any, state: JobState) -> None:
    wait_for(f"job {job_id} to be {state}", lambda: flower.job(job_id).state is state)


def row(flower: Flower, job_id: Any) -> dict[str, Any]:
    """The job's row on the tasks page, as the page's own script fetches it."""
    query = {"draw": 1, "start": 0, "length": 100, "search[value]": "", "order[0][column]": 0, "order[0][dir]": "asc"}
    shown = flower.get("/tasks/datatable", **query, **{"columns[0][data]": "name"})["data"]
    return next((task for task in shown if task["uuid"] == str(job_id)), {})


def pool_size(flower: Flower, worker: Worker) -> int:
    stats = flower.get("/api/workers", refresh=1, workername=worker.name)[worker.name]["stats"]
    return len(stats["pool"]["processes"])


def test_a_worker_shows_with_its_queue_and_its_broker(flower: Flower, start_worker: StartWorker, queue: str) -> None:
    worker = start_worker(queue)
    shown = wait_for(
        "the worker's answers",
        lambda: (
            {k: v for k, v in flower.get("/api/workers", refresh=1)[worker.name].items() if v}
            if {"stats", "active_queues"} <= flower.get("/api/workers", refresh=1)[worker.name].keys()
            else None
        ),
    )
    assert [entry["name"] for entry in shown["active_queues"]] == [queue]
    assert worker.name in flower.page("/workers")
    assert worker.name in flower.page(f"/worker/{worker.name}")


def test_the_tasks_page_says_how_a_job_stands_and_what_it_is(
    flower: Flower, start_worker: StartWorker, queue: str
) -> None:
    start_worker(queue)
    job_id = flower.submit(queue, sleep_seconds=600)
    wait_for(
        "the running job on the tasks page",
        lambda: row(flower, job_id).get("kwargs") == "running, owner=ann, kind=nightly",
    )
    assert row(flower, job_id)["state"] == "STARTED"
    assert '<th data-column="kwargs">Job</th>' in flower.page("/tasks")
    assert "running, owner=ann" in flower.page(f"/task/{job_id}")

    flower.press(f"/api/task/revoke/{job_id}", terminate="true")
    until_state(flower, job_id, JobState.CANCELLED)
    assert row(flower, job_id)["kwargs"].startswith("cancelled, owner=ann")


def test_no_page_shows_what_a_job_keeps_secret(flower: Flower, start_worker: StartWorker, queue: str) -> None:
    start_worker(queue)
    job_id = flower.submit(queue)
    until_state(flower, job_id, JobState.SUCCEEDED)
    with Celery(broker=flower.environment["DCCF_BROKER_URL"], set_as_current=False) as other:
        kwargs = {"files": {"Dockerfile": "FROM busybox\n"}, "env": {"PASSWORD": "hush"}, "queue": queue}
        by_name = other.send_task(TASK, kwargs=kwargs, queue=queue).id
    wait_for("the job that was sent by name", lambda: flower.get("/api/tasks").get(by_name, {}).get("succeeded"))
    pages = [flower.page(f"/task/{uuid}") + flower.page(f"/api/task/info/{uuid}") for uuid in (job_id, by_name)]
    assert "hush" not in flower.page("/api/tasks") + "".join(pages)


def test_grow_and_shrink_change_how_many_jobs_run_at_once(
    flower: Flower, start_worker: StartWorker, queue: str
) -> None:
    worker = start_worker(queue)
    wait_for("two processes", lambda: pool_size(flower, worker) == 2)
    flower.press(f"/api/worker/pool/grow/{worker.name}", n=1)
    wait_for("three processes", lambda: pool_size(flower, worker) == 3)
    long_jobs = [flower.submit(queue, sleep_seconds=600) for _ in range(3)]
    for job_id in long_jobs:
        until_state(flower, job_id, JobState.RUNNING)
    for job_id in long_jobs:
        flower.press(f"/api/task/revoke/{job_id}", terminate="true")
        until_state(flower, job_id, JobState.CANCELLED)

    flower.press(f"/api/worker/pool/shrink/{worker.name}", n=2)
    wait_for("one process", lambda: pool_size(flower, worker) == 1)
    with flower.database.begin() as tx:
        assert worker.name.removeprefix("dccf@") in {info.name for info in fleet.get_workers(tx)}


def test_revoke_cancels_a_job_that_waits(flower: Flower, queue: str) -> None:
    job_id = flower.submit(queue)
    flower.press(f"/api/task/revoke/{job_id}")
    assert flower.job(job_id).state is JobState.CANCELLED


def test_a_rate_limit_holds_jobs_up_until_it_is_lifted(flower: Flower, start_worker: StartWorker, queue: str) -> None:
    worker = start_worker(queue)
    set_limit = f"/api/task/rate-limit/{TASK}"
    assert "message" in flower.press(set_limit, workername=worker.name, ratelimit="1/h")
    first, second = flower.submit(queue), flower.submit(queue)
    wait_for("one of the two to end", lambda: {flower.job(first).state, flower.job(second).state} >= {"succeeded"})
    (other,) = [job for job in (first, second) if flower.job(job).state is JobState.QUEUED]
    wait_for("the worker to have the other one", lambda: row(flower, other).get("state") == "RECEIVED")
    assert flower.job(other).state is JobState.QUEUED

    flower.press(set_limit, workername=worker.name, ratelimit="0")
    for job_id in (first, second):
        until_state(flower, job_id, JobState.SUCCEEDED)


def test_shutdown_ends_the_worker_in_good_order(flower: Flower, start_worker: StartWorker, queue: str) -> None:
    worker = start_worker(queue)
    flower.press(f"/api/worker/shutdown/{worker.name}")
    assert worker.process.process.wait(30) == 0
    with flower.database.begin() as tx:
        assert worker.name.removeprefix("dccf@") not in {info.name for info in fleet.get_workers(tx)}


def test_the_broker_page_counts_jobs_workers_and_messages(
    flower: Flower, start_worker: StartWorker, queue: str
) -> None:
    in_broker = f"{queue}: messages in the broker"

    def lengths() -> dict[str, int]:
        return {entry["name"]: entry["messages"] for entry in flower.get("/api/queues/length")["active_queues"]}

    # A job that somebody sent by name, before there is a worker: a message without a row.
    with Celery(broker=flower.environment["DCCF_BROKER_URL"], set_as_current=False) as other:
        other.send_task(TASK, kwargs={"files": {"Dockerfile": "FROM busybox\n"}, "queue": queue}, queue=queue)
    jobs = [flower.submit(queue, sleep_seconds=600) for _ in range(3)]
    assert lengths()[queue] == 3
    assert lengths()[in_broker] >= 1
    assert queue in flower.page("/broker")

    start_worker(queue)

    def cells() -> list[str]:
        shown = flower.page("/broker").split(f'<tr id="{queue}">')[1].split("</tr>")[0]
        return [cell.rsplit(">", 1)[1].strip() for cell in shown.split("</td>")[:5]]

    # Queue, messages, unacknowledged, ready, consumers: two slots are busy, and one job waits.
    wait_for("both slots to be busy", lambda: cells() == [queue, "3", "2", "1", "1"])
    for job_id in jobs:
        flower.press(f"/api/task/revoke/{job_id}", terminate="true")
    wait_for("all messages to be taken", lambda: lengths()[in_broker] == 0)


def test_flower_does_not_complain_while_no_worker_is_there(flower: Flower) -> None:
    before = len(flower.process.log_text())
    flower.get("/api/workers", refresh=1)
    assert "Inspect method" not in flower.process.log_text()[before:]


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "http://elsewhere.example"}, {"Host": "elsewhere.example"}, {"Origin": "null"}],
    ids=["of another page", "by a name that was pointed here", "of a page without a name"],
)
@pytest.mark.parametrize("path", ["/tasks", f"/api/task/async-apply/{TASK}", "/api/workers"])
def test_a_web_page_elsewhere_reads_and_sends_nothing(flower: Flower, path: str, headers: dict[str, str]) -> None:
    url = f"http://127.0.0.1:{flower.port}{path}"
    for method in ("GET", "OPTIONS", "POST"):
        request = urllib.request.Request(url, headers=headers, method=method)
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=20)
        with refused.value as answer:
            assert answer.code == 403
            assert "Access-Control-Allow-Origin" not in answer.headers
            assert b"FLOWER_BASIC_AUTH" in answer.read()


def test_a_page_of_flowers_own_may_press_its_buttons(flower: Flower) -> None:
    origin = f"http://localhost:{flower.port}"
    request = urllib.request.Request(
        f"http://127.0.0.1:{flower.port}/api/task/revoke/{flower.submit('nobodys')}",
        b"terminate=true",
        {"Origin": origin, "Host": origin.removeprefix("http://")},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert answer.status == 200
