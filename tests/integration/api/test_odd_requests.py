"""Requests that no client of ours sends: each is a refusal that names its cause, never an error of ours."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from dccf.api import bodies, uploads
from tests.integration.api.conftest import ADMIN_TOKEN, Asker

pytestmark = pytest.mark.postgres

DOCKERFILE_PART = b'--B\r\nContent-Disposition: form-data; name="dockerfile"\r\n\r\nFROM busybox\r\n'


@pytest.mark.parametrize(
    ("spec", "cause"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"env":' * 50_000, "nested too deeply"),
        ('{"memory": "' + "9" * 400 + 'g"}', "memory: no machine has so much"),
        ('{"run_after": "0001-01-01T00:00:00+14:00"}', "run_after: the time is not in the years 1 to 9999"),
        ('{"run_after": "9999-12-31T23:59:59-14:00"}', "run_after: the time is not in the years 1 to 9999"),
        ('{"run_after": "9999-12-31T23:00:00Z", "job_timeout_seconds": 3601}', "beyond the year 9999"),
        ('{"run_after": "9999-12-31T23:00:00Z", "queue_timeout_seconds": 3601}', "beyond the year 9999"),
        (r'{"env": {"A": "\ud800"}}', "the value of A contains half a character"),
        (r'{"labels": {"a": "\ud800"}}', "labels/a"),
        ('{"cpus": NaN}', "cpus"),
        ('{"timeout_seconds": Infinity}', "timeout_seconds"),
        ('{"retries": 99999999999999999999}', "retries"),
    ],
)
def test_options_that_no_job_can_have_are_refused(ada: Asker, spec: str, cause: str) -> None:
    answer = ada.submit(spec=spec)

    assert answer.status_code == 422
    assert cause in answer.json["detail"]


def test_a_job_may_wait_for_the_end_of_time(ada: Asker) -> None:
    job_id = ada.submit_id(spec={"run_after": "9999-12-31T23:00:00Z", "job_timeout_seconds": 3599})

    assert ada.get(f"/v1/jobs/{job_id}").json["run_after"].startswith("9999-12-31T23:00:00")


@pytest.mark.parametrize("name", ["artifacts/%00", "?wait=%00", "artifacts/a%00b"])
def test_an_address_with_a_nul_is_refused(ada: Asker, name: str) -> None:
    separator = "" if name.startswith("?") else "/"
    answer = ada.get(f"/v1/jobs/{ada.submit_id()}{separator}{name}")

    assert answer.status_code == 422
    assert "NUL" in answer.json["detail"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/jobs?label=a=%00"),
        ("DELETE", "/v1/schedules/%00"),
        ("POST", "/v1/schedules/x:pause?owner=%00"),
        ("PUT", "/v1/limits/%00"),
    ],
)
def test_no_name_in_an_address_reaches_the_database_with_a_nul(admin: Asker, method: str, path: str) -> None:
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    answer = admin._client.open(path, method=method, headers=headers, data='{"running": 1}')

    assert answer.status_code == 422
    assert "NUL" in answer.text


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_cursor_beyond_all_times_is_none_of_ours(ada: Asker, time: str) -> None:
    cursor = base64.urlsafe_b64encode(f"{time} {ada.submit_id()}".encode()).decode().rstrip("=")
    answer = ada.get(f"/v1/jobs?cursor={cursor}")

    assert answer.status_code == 422
    assert "cursor" in answer.json["detail"]


@pytest.mark.parametrize("running", [-1, 1 << 31, 10**20])
def test_a_limit_that_no_column_holds_is_refused(admin: Asker, running: int) -> None:
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    answer: Any = admin._client.put("/v1/limits/ada", data=json.dumps({"running": running}), headers=headers)

    assert answer.status_code == 422
    assert answer.json["errors"][0]["pointer"] == "#/running"


def test_a_body_in_json_is_not_read_into_memory_whatever_its_size(ada: Asker) -> None:
    answer = ada.post("/v1/schedules", b"x" * (bodies.MAX_BYTES + 1))

    assert answer.status_code == 413
    assert f"larger than {bodies.MAX_BYTES} bytes" in answer.json["detail"]
    assert "DCCF_MAX_UPLOAD_BYTES" not in answer.json["detail"]


def post_parts(ada: Asker, body: bytes) -> Any:
    return ada.post("/v1/jobs", body, Content_Type="multipart/form-data; boundary=B")


def test_parts_without_end_or_with_endless_headers_are_refused_for_what_they_are(
    ada: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "MAX_FIELD_BYTES", 200_000)
    nothing_chosen = b'--B\r\nContent-Disposition: form-data; name="files"; filename=""\r\n\r\n\r\n'

    for body in (b"--B\r\nX: " + b"a" * 300_000, DOCKERFILE_PART + nothing_chosen * 10_100 + b"--B--\r\n"):
        answer = post_parts(ada, body)
        assert answer.status_code == 422
        assert "more than 10016 parts, or the headers of one are longer than 200000 bytes" in answer.json["detail"]


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        (DOCKERFILE_PART, "ended too early"),
        (DOCKERFILE_PART + b"--B\r\nno colon\r\n\r\nx\r\n--B--\r\n", "broken"),
        (DOCKERFILE_PART * 2 + b"--B--\r\n", "two files have the name 'Dockerfile'"),
        (b"", "there is no Dockerfile"),
    ],
)
def test_a_broken_body_is_refused(ada: Asker, body: bytes, cause: str) -> None:
    answer = post_parts(ada, body)

    assert answer.status_code == 422
    assert cause in answer.json["detail"]
