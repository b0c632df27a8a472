"""The application on a fresh database, asked as an administrator, as two owners, and as nobody."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from pydantic import SecretStr

from dccf.api import tokens
from dccf.api.app import close_app, create_app
from dccf.config import Settings
from dccf.store.database import Database

ADMIN_TOKEN = "the-bootstrap-token"
#: Werkzeug's TestResponse, whose ``json`` would have to be unwrapped in every test.
Answer = Any


class Asker:
    """Asks the application in somebody's name."""

    def __init__(self, client: FlaskClient, token: str | None) -> None:
        self._client = client
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def get(self, path: str, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self._client.get(path, headers=self._headers | named)

    def stream(self, path: str) -> Answer:
        """Get an answer whose pieces are not read yet."""
        return self._client.get(path, headers=self._headers, buffered=False)

    def post(self, path: str, data: Any = None, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self._client.post(path, data=data, headers=self._headers | named)

    def submit(
        self,
        files: Sequence[tuple[str, bytes]] = (),
        dockerfile: bytes | None = b"FROM busybox\n",
        spec: Any = None,
        **headers: str,
    ) -> Answer:
        data: dict[str, Any] = {"files": [(io.BytesIO(content), name) for name, content in files]}
        if dockerfile is not None:
            data["dockerfile"] = (io.BytesIO(dockerfile), "Dockerfile")
        if spec is not None:
            data["spec"] = spec if isinstance(spec, str) else json.dumps(spec)
        return self.post("/v1/jobs", data, **headers)

    def submit_id(self, **given: Any) -> str:
        response = self.submit(**given)
        assert response.status_code == 202, response.text
        job_id: str = response.json["id"]
        return job_id


@pytest.fixture
def api_settings(settings: Settings) -> Settings:
    changes = {"bootstrap_token": SecretStr(ADMIN_TOKEN), "token_pepper": SecretStr("pepper")}
    return settings.model_copy(update=changes)


@pytest.fixture
def app(api_settings: Settings, database: Database) -> Iterator[Flask]:
    made = create_app(api_settings, database)
    yield made
    close_app(made)


@pytest.fixture
def admin(app: Flask) -> Asker:
    return Asker(app.test_client(), ADMIN_TOKEN)


@pytest.fixture
def nobody(app: Flask) -> Asker:
    return Asker(app.test_client(), None)


@pytest.fixture
def ada(app: Flask, api_settings: Settings, database: Database) -> Asker:
    return Asker(app.test_client(), tokens.create(database, api_settings, "ada", "test"))


@pytest.fixture
def bob(app: Flask, api_settings: Settings, database: Database) -> Asker:
    return Asker(app.test_client(), tokens.create(database, api_settings, "bob", "test"))
