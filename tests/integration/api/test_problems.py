"""One shape for everything that goes wrong."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask

from dccf.api.app import close_app, create_app
from dccf.config import Settings
from dccf.store.database import Database
from tests.integration.api.conftest import ADMIN_TOKEN, Asker

pytestmark = pytest.mark.postgres

SHAPE = {
    "type": str,
    "title": str,
    "status": int,
    "detail": str,
    "instance": str,
    "code": str,
    "request_id": str,
    "errors": list,
}


def assert_is_problem(response: Any, status: int, code: str) -> None:
    assert response.status_code == status
    assert response.mimetype == "application/problem+json"
    assert {key: type(value) for key, value in response.json.items()} == SHAPE
    assert response.json["status"] == status
    assert response.json["code"] == code
    assert response.headers["X-Request-Id"] == response.json["request_id"]


def test_all_problems_have_one_shape(ada: Asker, nobody: Asker) -> None:
    job_id = ada.submit_id()

    assert_is_problem(nobody.get("/v1/jobs"), 401, "not_authenticated")
    assert_is_problem(ada.get("/nowhere"), 404, "not_found")
    assert_is_problem(ada.get(f"/v1/jobs/{job_id}/artifacts/x"), 404, "not_found")
    assert_is_problem(ada.post("/v1/workers"), 405, "method_not_allowed")
    assert_is_problem(ada.get("/v1/jobs?odd=1"), 422, "invalid_request")
    assert_is_problem(ada.get(f"/getResultingFiles?jobId={job_id}"), 409, "conflict")
    assert_is_problem(ada.post("/v1/jobs", b"x"), 415, "unsupported_media_type")
    refused = ada.post("/v1/workers")
    assert "GET" in refused.headers["Allow"]
    assert refused.json["detail"] == "POST does not go with /v1/workers; it takes GET"
    assert ada.get("/nowhere").json["detail"] == "there is nothing at /nowhere; /openapi.json says what there is"


def test_an_error_of_ours_says_nothing_of_our_insides(
    api_settings: Settings, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    app: Flask = create_app(api_settings, database)

    def fail() -> str:
        raise RuntimeError("the secret is 42")

    app.add_url_rule("/fail", "fail", fail)
    response = Asker(app.test_client(), ADMIN_TOKEN).get("/fail", X_Request_Id="given-id")
    close_app(app)

    assert_is_problem(response, 500, "internal_error")
    assert response.json["request_id"] == "given-id"
    assert "42" not in response.text
    assert "the secret is 42" in caplog.text
    assert "given-id" in caplog.text


def test_a_request_id_that_could_spoil_a_log_is_replaced(nobody: Asker) -> None:
    given = "x" * 65

    assert nobody.get("/healthz", X_Request_Id=given).headers["X-Request-Id"] != given
    assert nobody.get("/healthz", X_Request_Id="abc-1").headers["X-Request-Id"] == "abc-1"
