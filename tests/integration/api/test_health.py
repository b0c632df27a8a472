"""Health, the description, and the way from the root."""

from __future__ import annotations

import pytest
from openapi_spec_validator import validate

from dccf.api.app import close_app, create_app
from dccf.config import Settings
from dccf.store import fleet
from dccf.store.database import Database
from tests.integration.api.conftest import Asker

pytestmark = pytest.mark.postgres


def test_it_is_ready_without_workers_but_says_so(nobody: Asker) -> None:
    response = nobody.get("/readyz")

    assert response.status_code == 200
    statuses = {name: check["status"] for name, check in response.json["checks"].items()}
    assert statuses == {"database": "ok", "migrations": "ok", "controllers": "warn", "workers": "warn"}


def test_live_workers_and_controllers_are_counted(nobody: Asker, ada: Asker, database: Database) -> None:
    with database.begin() as tx:
        fleet.beat_controller(tx, "c", "0", {})
        fleet.beat_worker(tx, "w", "life", queues=["default"], slots=4, engine="fake", version="0", message="")

    checks = nobody.get("/readyz").json["checks"]

    assert checks["controllers"] == {"status": "ok", "detail": "1 alive"}
    assert checks["workers"] == {"status": "ok", "detail": "1 alive with 4 slots"}
    assert [worker["name"] for worker in ada.get("/v1/workers").json["items"]] == ["w"]


def test_a_database_that_is_away_makes_it_not_ready_but_leaves_it_up(api_settings: Settings) -> None:
    url = "postgresql+psycopg2://u@127.0.0.1:1/none"
    app = create_app(api_settings.model_copy(update={"database_url": url}))
    asker = Asker(app.test_client(), None)
    ready, health = asker.get("/readyz"), asker.get("/healthz")
    close_app(app)

    assert ready.status_code == 503
    assert {check["status"] for check in ready.json["checks"].values()} == {"fail"}
    assert health.status_code == 200


def test_the_description_is_valid_and_knows_every_route(nobody: Asker, admin: Asker) -> None:
    spec = nobody.get("/openapi.json").json

    validate(spec)

    assert spec["openapi"].startswith("3.1")
    documented = {(path, method) for path, operations in spec["paths"].items() for method in operations}
    assert ("/v1/jobs/{job_id}:cancel", "post") in documented
    assert ("/submitDemo", "post") in documented
    names = [one["name"] for one in spec["paths"]["/v1/jobs"]["get"]["parameters"]]
    assert names == ["state", "label", "limit", "cursor"]


def test_the_root_links_to_places_that_exist(admin: Asker) -> None:
    for path in admin.get("/").json["links"].values():
        assert admin.get(path).status_code == 200
