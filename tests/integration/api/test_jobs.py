"""Looking at jobs over HTTP: lists, ids, waiting, cancelling, whose is whose."""

from __future__ import annotations

import threading
from uuid import uuid4

import pytest
from flask import Flask

from dccf.config import Settings
from dccf.store.database import Database
from tests.integration.api.conftest import Asker
from tests.integration.api.playing import Attempt, play

pytestmark = pytest.mark.postgres


def test_pages_of_a_list_hold_every_job_once_newest_first(ada: Asker) -> None:
    made = [ada.submit_id() for _ in range(5)]

    seen: list[str] = []
    path, pages = "/v1/jobs?limit=2", 0
    while path:
        response = ada.get(path)
        seen += [job["id"] for job in response.json["items"]]
        path = response.headers.get("Link", "").partition(">")[0].removeprefix("<")
        pages += 1

    assert seen == made[::-1]
    assert pages == 3
    assert response.json["next_cursor"] is None


def test_a_list_is_narrowed_by_states_and_labels(ada: Asker) -> None:
    wanted = ada.submit_id(spec={"labels": {"a": "1", "b": "2"}})
    ada.submit_id(spec={"labels": {"a": "1"}})
    cancelled = ada.submit_id()
    ada.post(f"/v1/jobs/{cancelled}:cancel")

    def ids(query: str) -> list[str]:
        return [job["id"] for job in ada.get(f"/v1/jobs?{query}").json["items"]]

    assert ids("label=a=1&label=b=2") == [wanted]
    assert ids("state=cancelled&state=failed") == [cancelled]


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "state=odd", "label=a", "cursor=!!", "cursor=YQ", "odd=1"])
def test_a_query_parameter_that_is_not_allowed_is_named(ada: Asker, query: str) -> None:
    response = ada.get(f"/v1/jobs?{query}")

    assert response.status_code == 422
    assert response.json["errors"][0]["pointer"].split("/")[1] == query.partition("=")[0]


def test_a_job_is_made_again_from_its_files_and_options(ada: Asker, bob: Asker) -> None:
    spec = {"labels": {"a": "1"}, "timeout_seconds": 7}
    job_id = ada.submit_id(files=[("a.txt", b"a")], spec=spec)
    ada.post(f"/v1/jobs/{job_id}:cancel")

    made = ada.post(f"/v1/jobs/{job_id}:rerun", Idempotency_Key="again")
    again = ada.post(f"/v1/jobs/{job_id}:rerun", Idempotency_Key="again")

    assert (made.status_code, made.json["state"]) == (202, "queued")
    assert made.json["id"] != job_id
    assert made.json["id"] == again.json["id"]
    assert (made.json["spec"]["labels"], made.json["spec"]["timeout_seconds"]) == ({"a": "1"}, 7)
    bundle = ada.get(f"/v1/jobs/{made.json['id']}/bundle").json["items"]
    assert [file["path"] for file in bundle] == ["Dockerfile", "a.txt"]
    history = ada.get(f"/v1/jobs/{made.json['id']}/history").json["items"]
    assert f"made again from job {job_id}" in [event["message"] for event in history]
    assert bob.post(f"/v1/jobs/{job_id}:rerun").status_code == 404


def test_an_ended_job_is_removed_and_then_unknown(ada: Asker) -> None:
    job_id = ada.submit_id()
    remove = ada._client.delete

    assert remove(f"/v1/jobs/{job_id}", headers=ada._headers).status_code == 409
    ada.post(f"/v1/jobs/{job_id}:cancel")
    assert remove(f"/v1/jobs/{job_id}", headers=ada._headers).status_code == 200
    assert ada.get(f"/v1/jobs/{job_id}").status_code == 404


def test_a_job_is_found_by_an_unambiguous_beginning_of_its_id(ada: Asker) -> None:
    job_id = ada.submit_id()

    assert ada.get(f"/v1/jobs/{job_id[:6]}").json["id"] == job_id
    assert ada.get(f"/v1/jobs/{job_id.replace('-', '')[:15]}").json["id"] == job_id


def test_a_beginning_that_fits_several_jobs_is_refused(ada: Asker) -> None:
    ada.submit_id()
    job_id = ada.submit_id()

    response = ada.get(f"/v1/jobs/{job_id[:6]}")

    assert response.status_code == 422
    assert "several jobs" in response.json["detail"]


@pytest.mark.parametrize("path", ["", "/attempts", "/history", "/logs", "/artifacts", "/artifacts.tar", "/bundle"])
def test_a_job_that_does_not_exist_is_a_404(ada: Asker, path: str) -> None:
    assert ada.get(f"/v1/jobs/{uuid4()}{path}").status_code == 404


@pytest.mark.parametrize("name", ["abc", "not-an-id", "0198c0de-0000-7000-8000-00000000abcd0", "%00"])
def test_what_is_no_id_is_refused(ada: Asker, name: str) -> None:
    assert ada.get(f"/v1/jobs/{name}").status_code == 422


def test_nobody_sees_or_touches_the_jobs_of_another_owner(ada: Asker, bob: Asker) -> None:
    job_id = ada.submit_id()

    assert bob.get("/v1/jobs").json["items"] == []
    for path in ("", "/logs", "/logs?follow=1", "/artifacts", "/artifacts/x", "/bundle", "/history", "/attempts"):
        assert bob.get(f"/v1/jobs/{job_id}{path}").status_code == 404
    assert bob.get(f"/v1/jobs/{job_id[:8]}").status_code == 404
    assert bob.post(f"/v1/jobs/{job_id}:cancel").status_code == 404
    assert bob.get(f"/getJobStatus?jobId={job_id}").status_code == 404
    assert ada.get(f"/v1/jobs/{job_id}").json["state"] == "queued"


def test_an_administrator_sees_and_cancels_all_jobs(ada: Asker, admin: Asker) -> None:
    job_id = ada.submit_id()

    assert [job["id"] for job in admin.get("/v1/jobs").json["items"]] == [job_id]
    assert admin.post(f"/v1/jobs/{job_id}:cancel").status_code == 200


def test_cancelling_a_queued_job_is_done_at_once_and_again_is_no_harm(ada: Asker) -> None:
    job_id = ada.submit_id()

    first, again = ada.post(f"/v1/jobs/{job_id}:cancel"), ada.post(f"/v1/jobs/{job_id}:cancel")

    assert (first.status_code, again.status_code) == (200, 200)
    assert again.json["state"] == "cancelled"


def test_cancelling_an_active_job_is_accepted_for_its_worker(
    ada: Asker, database: Database, settings: Settings
) -> None:
    job_id = ada.submit_id()
    Attempt.claim(database, settings, job_id)

    response = ada.post(f"/v1/jobs/{job_id}:cancel")

    assert response.status_code == 202
    assert response.json["cancel_requested"] is True


def test_cancelling_a_job_that_has_ended_is_a_conflict(ada: Asker, database: Database, settings: Settings) -> None:
    job_id = ada.submit_id()
    play(database, settings, job_id)

    response = ada.post(f"/v1/jobs/{job_id}:cancel")

    assert response.status_code == 409
    assert response.json["code"] == "conflict"


def test_attempts_and_history_tell_what_happened(ada: Asker, database: Database, settings: Settings) -> None:
    job_id = ada.submit_id()
    play(database, settings, job_id, exit_code=3)

    attempts = ada.get(f"/v1/jobs/{job_id}/attempts").json["items"]
    assert [(one["fence"], one["outcome"], one["reason"], one["exit_code"]) for one in attempts] == [
        (1, "failed", "exit_nonzero", 3)
    ]
    history = ada.get(f"/v1/jobs/{job_id}/history").json["items"]
    assert [one["state"] for one in history] == ["queued", "building", "running", "collecting", "failed"]


def test_waiting_ends_when_the_job_does(ada: Asker, app: Flask, database: Database, settings: Settings) -> None:
    job_id = ada.submit_id()
    worker = threading.Thread(target=play, args=(database, settings, job_id))
    worker.start()

    response = ada.get(f"/v1/jobs/{job_id}?wait=30s")
    worker.join()

    assert response.json["state"] == "succeeded"


def test_waiting_gives_the_job_as_it_is_when_the_time_is_up(ada: Asker) -> None:
    job_id = ada.submit_id()

    assert ada.get(f"/v1/jobs/{job_id}?wait=0.05").json["state"] == "queued"
    assert ada.get(f"/v1/jobs/{job_id}?wait=soon").status_code == 422
