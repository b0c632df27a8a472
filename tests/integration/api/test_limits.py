"""Limits per owner over HTTP."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from tests.integration.api.conftest import Answer, Asker

pytestmark = pytest.mark.postgres


def put(asker: Asker, owner: str, body: str) -> Answer:
    client: FlaskClient = asker._client
    return client.put(f"/v1/limits/{owner}", data=body, headers=asker._headers, content_type="application/json")


def test_at_the_queued_limit_the_answer_is_429_with_a_reason_and_when_to_come_again(admin: Asker, ada: Asker) -> None:
    assert put(admin, "ada", '{"queued": 1, "running": 2}').json["limits"] == {"running": 2, "queued": 1}
    ada.submit_id()
    refused = ada.submit()

    assert (refused.status_code, refused.json["code"]) == (429, "limit_reached")
    assert "ada has 1 jobs waiting" in refused.json["detail"]
    assert int(refused.headers["Retry-After"]) > 0


def test_everybody_sees_their_own_limits_and_only_an_administrator_sets_them(admin: Asker, ada: Asker) -> None:
    put(admin, "bob", '{"running": 1}')
    ada.submit_id()

    assert [usage["owner"] for usage in ada.get("/v1/limits").json["items"]] == ["ada"]
    assert [usage["owner"] for usage in admin.get("/v1/limits").json["items"]] == ["ada", "bob"]
    assert put(ada, "ada", '{"running": 99}').status_code == 403


@pytest.mark.parametrize("body", ['{"running": -1}', '{"odd": 1}', "no json"])
def test_limits_that_make_no_sense_are_refused(admin: Asker, body: str) -> None:
    assert put(admin, "ada", body).status_code == 422
