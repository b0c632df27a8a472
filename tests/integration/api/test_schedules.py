"""Schedules over HTTP."""

from __future__ import annotations

import json

import pytest

from tests.integration.api.conftest import Answer, Asker

pytestmark = pytest.mark.postgres


def create(asker: Asker, **values: str) -> Answer:
    body = json.dumps({"name": "nightly", "cron": "30 3 * * *", **values})
    return asker._client.post("/v1/schedules", data=body, headers=asker._headers)


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
