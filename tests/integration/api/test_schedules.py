"""Schedules over HTTP."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from tests.integration.api.conftest import Answer, Asker

pytestmark = pytest.mark.postgres


def create(asker: Asker, **values: str) -> Answer:
    body = json.dumps({"name": "nightly", "cron": "30 3 * * *", **values})
    return asker._client.post("/v1/schedules", data=body, headers=asker._headers)


def create_of_files(asker: Asker, spec: Any = None, **values: str) -> Answer:
    data: dict[str, Any] = {
        "dockerfile": (io.BytesIO(b"FROM busybox\n"), "Dockerfile"),
        "files": [(io.BytesIO(b"x"), "src/a.txt")],
        "spec": json.dumps(spec or {}),
        "schedule": json.dumps({"name": "nightly", "cron": "30 3 * * *", **values}),
    }
    return asker.post("/v1/schedules", data)


def change(asker: Asker, path: str, **values: Any) -> Answer:
    return asker._client.patch(path, data=json.dumps(values), headers=asker._headers)


def test_a_schedule_is_made_of_files_and_options_like_a_job_and_makes_one_when_asked(ada: Asker, bob: Asker) -> None:
    made = create_of_files(ada, {"labels": {"team": "x"}}, time_zone="Europe/Berlin", missed="one")
    assert (made.status_code, made.headers["Location"]) == (201, "/v1/schedules/nightly")
    shown = ada.get(made.headers["Location"]).json
    assert (shown["schedule"], len(shown["next_times"]), shown["runs"]) == (made.json, 5, [])
    assert made.json["spec"]["labels"] == {"team": "x"}

    ada.post("/v1/schedules/nightly:pause")
    ran = ada.post("/v1/schedules/nightly:run", Idempotency_Key="once")
    assert (ran.status_code, ran.json["spec"]["labels"]) == (202, {"team": "x"})
    assert ada.post("/v1/schedules/nightly:run", Idempotency_Key="once").json["id"] == ran.json["id"]
    files = [one["path"] for one in ada.get(f"/v1/jobs/{ran.json['id']}/bundle").json["items"]]
    assert files == ["Dockerfile", "src/a.txt"]
    history = ada.get(f"/v1/jobs/{ran.json['id']}/history").json["items"]
    assert "made by schedule nightly when ada asked" in [one["message"] for one in history]
    runs = ada.get("/v1/schedules/nightly").json["runs"]
    assert [(run["job_id"], run["state"]) for run in runs] == [(ran.json["id"], "queued")]

    assert create_of_files(bob).status_code == 201
    assert bob.get("/v1/schedules/nightly").json["runs"] == []


def test_what_is_wrong_with_a_schedule_is_told(ada: Asker, admin: Asker) -> None:
    assert create_of_files(ada).status_code == 201
    taken = create_of_files(ada)
    assert (taken.status_code, "choose another name" in taken.json["detail"]) == (409, True)
    wrong = create_of_files(ada, name="n2", cron="0 0 30 2 *")
    assert (wrong.status_code, "never comes true" in wrong.json["detail"]) == (422, True)
    assert create_of_files(ada, {"cpus": -1}, name="n2").json["errors"][0]["pointer"] == "#/cpus"
    assert create_of_files(ada, name="a/b").json["errors"][0]["pointer"] == "#/name"
    without = ada.post("/v1/schedules", {"dockerfile": (io.BytesIO(b"FROM busybox\n"), "Dockerfile")})
    assert "the field schedule is missing" in without.json["detail"]
    no_json = ada.post("/v1/schedules", "name=nightly").json["detail"]
    assert no_json.startswith("the body is not valid: Invalid JSON")
    assert change(ada, "/v1/schedules/nightly").status_code == 422
    admin._client.put("/v1/limits/ada", data=b'{"queued": 0}', headers=admin._headers)
    assert ada.post("/v1/schedules/nightly:run").json["code"] == "limit_reached"
    assert ada.get("/v1/schedules/nightly").json["runs"] == []
    assert [one["name"] for one in ada.get("/v1/schedules").json["items"]] == ["nightly"]


def test_another_owners_schedule_is_for_administrators(ada: Asker, bob: Asker, admin: Asker) -> None:
    for asker in (ada, bob):
        create_of_files(asker)
    assert change(admin, "/v1/schedules/nightly?owner=ada", cron="0 4 * * *").json["owner"] == "ada"
    assert admin.post("/v1/schedules/nightly:run?owner=ada").json["owner"] == "ada"
    assert admin.get("/v1/schedules/nightly").status_code == 404
    for refused in (
        bob.get("/v1/schedules/nightly?owner=ada"),
        change(bob, "/v1/schedules/nightly?owner=ada", cron="* * * * *"),
        bob.post("/v1/schedules/nightly:pause?owner=ada"),
        bob.post("/v1/schedules/nightly:run?owner=ada"),
        bob._client.delete("/v1/schedules/nightly?owner=ada", headers=bob._headers),
    ):
        assert refused.status_code == 403
    assert [one["cron"] for one in admin.get("/v1/schedules").json["items"]] == ["0 4 * * *", "30 3 * * *"]
    assert bob.get("/v1/schedules/nightly?onwer=ada").status_code == 422


def test_a_schedule_is_made_paused_resumed_and_removed_by_its_owner(ada: Asker, bob: Asker, admin: Asker) -> None:
    job_id = ada.submit_id()
    made = create(ada, job_id=job_id)
    assert (made.status_code, made.json["owner"], made.json["is_paused"]) == (201, "ada", False)
    assert create(ada, job_id=job_id).status_code == 409
    assert create(bob, job_id=job_id).status_code == 404
    assert create(ada, job_id=job_id, name="n2", cron="odd").json["errors"][0]["pointer"] == "#/cron"

    assert bob.post("/v1/schedules/nightly:pause").status_code == 404
    assert ada.post("/v1/schedules/nightly:pause").json["is_paused"] is True
    assert admin.post("/v1/schedules/nightly:resume?owner=ada").json["is_paused"] is False
    assert bob.get("/v1/schedules").json["items"] == []
    assert [one["name"] for one in admin.get("/v1/schedules").json["items"]] == ["nightly"]
    removed: Answer = ada._client.delete("/v1/schedules/nightly", headers=ada._headers)
    assert (removed.status_code, removed.json["items"]) == (200, [])
