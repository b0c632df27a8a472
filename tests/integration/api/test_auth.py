"""Who may ask, and what those hear who may not."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask

from dccf import errors
from dccf.api import tokens
from dccf.api.app import close_app, create_app
from dccf.config import Settings
from dccf.store import tokens as token_rows
from dccf.store.database import Database
from tests.integration.api.conftest import Asker

pytestmark = pytest.mark.postgres


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/workers", "/getJobStatus?jobId=x", "/nowhere"])
def test_without_a_token_nothing_is_told(nobody: Asker, path: str) -> None:
    response = nobody.get(path)

    assert response.status_code == 401
    assert response.json["code"] == "not_authenticated"
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/openapi.json"])
def test_what_tells_of_nobody_needs_no_token(nobody: Asker, path: str) -> None:
    assert nobody.get(path).status_code == 200


@pytest.mark.parametrize("token", ["wrong", "dccf_0123456789ab_" + "x" * 43, "dccf_", "ü"])
def test_a_wrong_token_is_refused(app: Flask, token: str) -> None:
    assert Asker(app.test_client(), token).get("/v1/jobs").status_code == 401


def test_a_token_with_another_secret_part_is_refused(app: Flask, database: Database, api_settings: Settings) -> None:
    token = tokens.create(database, api_settings, "ada", "test")
    forged = token[:-1] + ("A" if token[-1] != "A" else "B")

    assert Asker(app.test_client(), token).get("/v1/jobs").status_code == 200
    assert Asker(app.test_client(), forged).get("/v1/jobs").status_code == 401


def test_revoked_and_expired_tokens_are_refused(app: Flask, database: Database, api_settings: Settings) -> None:
    revoked = tokens.create(database, api_settings, "ada", "test")
    with database.begin() as tx:
        token_rows.revoke(tx, revoked.split("_")[1])
    past = datetime.now(UTC) - timedelta(seconds=1)
    expired = tokens.create(database, api_settings, "ada", "test", expires_at=past)

    for token in (revoked, expired):
        assert Asker(app.test_client(), token).get("/v1/jobs").status_code == 401


@pytest.mark.parametrize("owner", ["", "a b", "a/b", "../x", "-x", "x" * 201])
def test_nobody_can_be_called_what_no_address_and_no_folder_can(
    database: Database, api_settings: Settings, owner: str
) -> None:
    with pytest.raises(errors.InvalidRequest, match="is no name for an owner; write letters, digits"):
        tokens.create(database, api_settings, owner, "test")


def test_another_pepper_makes_all_tokens_invalid(database: Database, api_settings: Settings) -> None:
    token = tokens.create(database, api_settings, "ada", "test")
    other = api_settings.model_copy(update={"token_pepper": api_settings.bootstrap_token})

    assert tokens.identify(database, api_settings, token) is not None
    assert tokens.identify(database, other, token) is None


@pytest.fixture
def open_app(api_settings: Settings, database: Database) -> Iterator[Flask]:
    made = create_app(api_settings.model_copy(update={"auth": "none"}), database)
    yield made
    close_app(made)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8080", "[::1]:8080"])
def test_without_authentication_this_machine_may_ask(open_app: Flask, host: str) -> None:
    asker = Asker(open_app.test_client(), None)

    assert asker.get("/v1/jobs", Host=host).status_code == 200
    assert asker.get("/v1/jobs", Host=host, Origin="http://localhost:3000").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "localhost.evil.example"},
        {"Host": "localhost", "Origin": "https://evil.example"},
        {"Host": "localhost", "Origin": "null"},
        {"Host": "localhost", "Origin": "http://[bad"},
    ],
)
def test_without_authentication_a_web_page_reaches_nothing(open_app: Flask, headers: dict[str, str]) -> None:
    asker = Asker(open_app.test_client(), None)

    for response in (asker.get("/v1/jobs", **headers), asker.post("/submitDemo", **headers)):
        assert response.status_code == 403
        assert response.json["code"] == "not_allowed"
