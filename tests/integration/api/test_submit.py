"""Submitting over HTTP, and the errors that people make when they do."""

from __future__ import annotations

import io
import json
import socket

import pytest
from flask import Flask

from dccf.api.app import close_app, create_app
from dccf.config import Settings
from dccf.store import bundles, jobs
from dccf.store.database import Database
from tests.conftest import celery_of, hints_out, url_of
from tests.integration.api.conftest import ADMIN_TOKEN, Asker
from tests.processes import wait_for

pytestmark = pytest.mark.postgres


def test_a_submitted_job_is_accepted_and_found_at_its_location(ada: Asker) -> None:
    response = ada.submit([("data/a.txt", b"1")], spec={"memory": "64m", "labels": {"project": "demo"}})

    assert response.status_code == 202
    found = ada.get(response.headers["Location"])
    assert found.json == response.json
    assert found.json["state"] == "queued"
    assert found.json["owner"] == "ada"
    assert found.json["spec"]["memory"] == 64 << 20


def test_how_a_job_is_run_is_taken_as_asked(api_settings: Settings, database: Database) -> None:
    allowed = {"allowed_profiles": ("strict", "compat"), "allowed_runtimes": ("runsc",)}
    app = create_app(api_settings.model_copy(update=allowed), database)
    spec = {
        "profile": "compat",
        "user": "1000:users",
        "runtime": "runsc",
        "pids": 99,
        "tmp": "1m",
        "shm": 1 << 16,
        "ulimits": {"nofile": 5000},
        "secrets": {"TOKEN": "registry-token"},
    }
    response = Asker(app.test_client(), ADMIN_TOKEN).submit(spec=spec)
    close_app(app)

    assert response.status_code == 202, response.text
    found = response.json["spec"]
    assert {name: found[name] for name in spec} == spec | {"tmp": 1 << 20}


def test_uploaded_files_keep_their_folders_and_contents(ada: Asker, database: Database) -> None:
    job_id = ada.submit_id(files=[("a/b/c.bin", b"\0\r\n--x\r\n" * 99), ("Ünï cödé.txt", b"x"), ("empty", b"")])

    files = {file["path"]: file for file in ada.get(f"/v1/jobs/{job_id}/bundle").json["items"]}
    assert sorted(files) == ["Dockerfile", "a/b/c.bin", "empty", "Ünï cödé.txt"]
    assert files["a/b/c.bin"]["size"] == 8 * 99
    assert files["empty"]["size"] == 0


def test_the_dockerfile_may_come_among_the_files(ada: Asker) -> None:
    assert ada.submit([("Dockerfile", b"FROM busybox\n")], dockerfile=None).status_code == 202


def test_a_submit_leaves_a_hint_at_the_broker(ada: Asker, api_settings: Settings) -> None:
    ada.submit_id()

    assert api_settings.broker_folder is not None
    messages = api_settings.broker_folder / "messages"
    wait_for("the hint", lambda: list(messages.iterdir()))


def test_a_submit_does_not_wait_for_a_broker_that_does_not_answer(
    api_settings: Settings, database: Database, silent_broker: socket.socket
) -> None:
    hanging = api_settings.model_copy(update={"broker_url": url_of(silent_broker)})
    app = create_app(hanging, database, celery_of(hanging, database))
    asker = Asker(app.test_client(), ADMIN_TOKEN)
    answers = [asker.submit().status_code for _ in range(3)]

    # All were answered before the first hint was given up; they are in hand still, and counted as sent.
    assert (answers, hints_out(database)) == ([202, 202, 202], 3)
    silent_broker.close()
    wait_for("the hints to be put back", lambda: not hints_out(database))
    close_app(app)


def test_more_than_a_thousand_files_are_taken(ada: Asker) -> None:
    names = [f"files/{number}.txt" for number in range(1200)]

    job_id = ada.submit_id(files=[(name, b"same") for name in names])

    found = [file["path"] for file in ada.get(f"/v1/jobs/{job_id}/bundle").json["items"]]
    assert sorted([*names, "Dockerfile"]) == sorted(found)


def test_permissions_of_a_file_come_in_a_part_header(ada: Asker) -> None:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="dockerfile"\r\n\r\nFROM busybox\r\n'
        b'--b\r\nContent-Disposition: form-data; name="files"; filename="run.sh"\r\n'
        b"X-File-Mode: 755\r\n\r\nx\r\n--b--\r\n"
    )
    response = ada.post("/v1/jobs", body, Content_Type="multipart/form-data; boundary=b")

    files = ada.get(f"/v1/jobs/{response.json['id']}/bundle").json["items"]
    assert {file["path"]: file["mode"] for file in files} == {"Dockerfile": 0o644, "run.sh": 0o755}


@pytest.mark.parametrize(
    ("files", "dockerfile", "says"),
    [
        ([("a", b"x")], None, "there is no Dockerfile"),
        ([], b"", "the Dockerfile is empty"),
        ([("a/../../etc/passwd", b"x")], b"FROM a\n", "contains '..'"),
        ([("/etc/passwd", b"x")], b"FROM a\n", "it is absolute"),
        ([("n" * 300, b"x")], b"FROM a\n", "longer than 255 bytes"),
        ([("a.txt", b"1"), ("a.txt", b"2")], b"FROM a\n", "two files have the name 'a.txt'"),
        ([("a", b"1"), ("a/b", b"2")], b"FROM a\n", "both a file and a folder"),
        ([], b"FROM a\n" * 10_000, "the Dockerfile is larger than"),
    ],
)
def test_a_bundle_that_cannot_be_is_refused_with_its_reason(
    ada: Asker, files: list[tuple[str, bytes]], dockerfile: bytes | None, says: str
) -> None:
    response = ada.submit(files, dockerfile)

    assert response.status_code == 422
    assert response.json["code"] == "invalid_request"
    assert says in response.json["detail"]
    assert ada.get("/v1/jobs").json["items"] == []


@pytest.mark.parametrize(("name", "says"), [("a%00b", "NUL"), ("a%5Cb", "backslash"), ("%2Fa", "absolute")])
def test_a_file_name_that_is_hidden_in_percent_signs_is_refused_too(ada: Asker, name: str, says: str) -> None:
    head = f"--b\r\nContent-Disposition: form-data; name=\"files\"; filename*=UTF-8''{name}\r\n\r\n"

    response = ada.post("/v1/jobs", f"{head}x\r\n--b--\r\n", Content_Type="multipart/form-data; boundary=b")

    assert response.status_code == 422
    assert says in response.json["detail"]


def test_an_empty_upload_is_told_that_there_is_no_dockerfile(ada: Asker) -> None:
    response = ada.post("/v1/jobs", b"--b--\r\n", Content_Type="multipart/form-data; boundary=b")

    assert response.status_code == 422
    assert "there is no Dockerfile" in response.json["detail"]


@pytest.mark.parametrize(
    ("spec", "pointer", "says"),
    [
        ({"cpu": 1}, "#/cpu", "did you mean cpus?"),
        ({"timeout_seconds": -1}, "#/timeout_seconds", "greater than 0"),
        ({"memory": "lots"}, "#/memory", "is not a size"),
        ({"env": {"A-B": "x"}}, "#/env", "no name for an environment variable"),
        ({"network": "bridge"}, "#/network", "switched off"),
        ({"run_after": "2030-01-01T00:00:00"}, "#/run_after", "no zone"),
        ({"profile": "compat"}, "#/profile", "'compat' is not allowed here; use strict, or ask"),
        ({"profile": "root"}, "#/profile", "'strict' or 'compat'"),
        ({"runtime": "runsc"}, "#/runtime", "DCCF_ALLOWED_RUNTIMES"),
        ({"runtime": "../x"}, "#/runtime", "'../x' is not allowed; write letters, digits, dots, dashes"),
        ({"user": "a b"}, "#/user", "by name or number, like 1000:100"),
        ({"queue": "A"}, "#/queue", "write lower-case letters"),
        ({"labels": {"a b": "c"}}, "#/labels/a b", "dashes, underscores and slashes"),
        ({"run_after": "tomorrow"}, "#/run_after", "'tomorrow' is not a time; write it like"),
        ({"odd": 1}, "#/odd", "there is no such field; there are env, "),
        ({"pids": 1000}, "#/pids", "more than the 256 of DCCF_PIDS_LIMIT"),
        ({"tmp": 0}, "#/tmp", "greater than or equal to 65536"),
        ({"ulimits": {"nofile": 1 << 20}}, "#/ulimits/nofile", "more than the 65536"),
        ({"ulimits": {"core": 1}}, "#/ulimits/core", "'cpu', 'data'"),
        ({"secrets": {"A": "../other/token"}}, "#/secrets/A", "write letters, digits"),
        ({"secrets": {"A-B": "x"}}, "#/secrets", "no name for an environment variable"),
        ({"secrets": {"A": "x"}, "env": {"A": "y"}}, "#/secrets", "A is in env as well"),
        ("[1]", "#", "JSON object"),
        ("{", "#", "no JSON"),
    ],
)
def test_an_option_that_is_not_allowed_is_named(ada: Asker, spec: object, pointer: str, says: str) -> None:
    response = ada.submit(spec=spec)

    assert response.status_code == 422
    assert [one["pointer"] for one in response.json["errors"]] == [pointer]
    assert says in response.json["errors"][0]["detail"]


def test_an_unknown_form_field_is_named_with_the_ones_there_are(ada: Asker) -> None:
    response = ada.post("/v1/jobs", {"docker": (io.BytesIO(b"FROM a\n"), "Dockerfile")})

    assert response.status_code == 422
    assert response.json["detail"] == "there is no field 'docker'; the fields are dockerfile, files, spec"


def test_a_body_that_is_no_form_is_refused(ada: Asker) -> None:
    response = ada.post("/v1/jobs", json.dumps({}), Content_Type="application/json")

    assert response.status_code == 415
    assert "multipart/form-data" in response.json["detail"]


def test_a_body_that_ends_too_early_is_refused_and_makes_no_job(ada: Asker) -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="dockerfile"\r\n\r\nFROM bus'

    response = ada.post("/v1/jobs", body, Content_Type="multipart/form-data; boundary=b")

    assert response.status_code == 422
    assert "ended too early" in response.json["detail"]
    assert ada.get("/v1/jobs").json["items"] == []


def test_a_body_over_the_limit_is_refused_with_the_limit(api_settings: Settings, database: Database) -> None:
    app = create_app(api_settings.model_copy(update={"max_upload_bytes": 10_000}), database)
    response = Asker(app.test_client(), ADMIN_TOKEN).submit([("big", b"x" * 20_000)])
    close_app(app)

    assert response.status_code == 413
    assert response.json["code"] == "too_large"
    assert "10000 bytes" in response.json["detail"]


def test_more_files_than_allowed_are_refused(api_settings: Settings, database: Database) -> None:
    app = create_app(api_settings.model_copy(update={"max_bundle_files": 3}), database)
    response = Asker(app.test_client(), ADMIN_TOKEN).submit([(str(number), b"x") for number in range(4)])
    close_app(app)

    assert response.status_code == 422
    assert "more than 3 files" in response.json["detail"]


def test_the_same_key_and_request_again_is_the_same_job(ada: Asker) -> None:
    first = ada.submit([("a", b"1")], Idempotency_Key='"k-1"')
    again = ada.submit([("a", b"1")], Idempotency_Key="k-1")

    assert again.status_code == 202
    assert again.json["id"] == first.json["id"]
    assert again.headers["Idempotency-Replayed"] == "true"
    assert len(ada.get("/v1/jobs").json["items"]) == 1


def test_the_same_key_with_another_request_is_refused(ada: Asker) -> None:
    ada.submit([("a", b"1")], Idempotency_Key="k-1")
    response = ada.submit([("a", b"2")], Idempotency_Key="k-1")

    assert response.status_code == 422
    assert response.json["code"] == "idempotency_mismatch"


def test_two_owners_may_use_the_same_key(ada: Asker, bob: Asker) -> None:
    first, second = ada.submit(Idempotency_Key="k"), bob.submit(Idempotency_Key="k")

    assert first.json["id"] != second.json["id"]


def test_a_database_that_is_away_is_a_503_that_says_when_to_come_again(api_settings: Settings) -> None:
    app = create_app(api_settings.model_copy(update={"database_url": "postgresql+psycopg2://u@127.0.0.1:1/none"}))
    response = Asker(app.test_client(), ADMIN_TOKEN).submit()
    close_app(app)

    assert response.status_code == 503
    assert response.json["code"] == "store_unavailable"
    assert response.headers["Retry-After"].isdigit()
    assert "127.0.0.1" not in response.text


def test_a_broker_that_is_away_does_not_keep_a_job_from_being_taken(
    api_settings: Settings, database: Database
) -> None:
    app: Flask = create_app(
        api_settings.model_copy(update={"broker_folder": api_settings.state_folder / "nowhere"}), database
    )
    response = Asker(app.test_client(), ADMIN_TOKEN).submit()
    close_app(app)

    assert response.status_code == 202
    with database.begin() as tx:
        job = jobs.find(tx, None).items[0]
        assert bundles.get_files(tx, job.bundle_id)
