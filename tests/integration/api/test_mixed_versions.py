"""While versions are mixed, or after a step back: jobs with an option that only a newer version knows."""

from __future__ import annotations

from uuid import UUID

import pytest
from sqlalchemy import text

from dccf.config import Settings
from dccf.lifecycle import attempts
from dccf.lifecycle.attempts import Holder
from dccf.store.database import Database
from tests.integration.api.conftest import Asker

pytestmark = pytest.mark.postgres


@pytest.fixture
def job_id(ada: Asker, database: Database) -> str:
    """A job that a newer version took in."""
    made = ada.submit_id(spec={"labels": {"a": "b"}})
    with database.begin() as tx:
        tx.execute(text("""UPDATE job SET spec = spec || '{"gpus": 1}' WHERE id = :id"""), {"id": made})
    return made


def options(database: Database, job_id: str) -> dict[str, object]:
    with database.begin() as tx:
        found: dict[str, object] = tx.execute(
            text("SELECT spec FROM job WHERE id = :id"), {"id": job_id}
        ).scalar_one()
    return found


def test_it_is_listed_shown_and_cancelled_like_any_other(ada: Asker, job_id: str) -> None:
    other = ada.submit_id()

    assert [job["id"] for job in ada.get("/v1/jobs").json["items"]] == [other, job_id]
    assert ada.get(f"/v1/jobs/{job_id}").json["spec"]["labels"] == {"a": "b"}
    assert ada.post(f"/v1/jobs/{job_id}:cancel").json["state"] == "cancelled"


def test_no_worker_runs_it_without_the_option_that_it_does_not_know(
    job_id: str, database: Database, settings: Settings
) -> None:
    holder = Holder("old", "old/1")

    assert attempts.claim(database, settings, UUID(job_id), holder) is None
    with database.begin() as tx:
        row = tx.execute(
            text("SELECT state, hints, hint_after > now() AS is_put_back FROM job WHERE id = :id"), {"id": job_id}
        ).one()
    assert (row.state, row.hints, row.is_put_back) == ("queued", 0, True)


def test_what_is_made_of_it_again_keeps_the_option(ada: Asker, job_id: str, database: Database) -> None:
    again = ada.post(f"/v1/jobs/{job_id}:rerun")
    assert again.status_code == 202
    assert options(database, again.json["id"])["gpus"] == 1

    body = f'{{"name": "nightly", "job_id": "{job_id}", "cron": "0 0 1 1 *"}}'
    assert ada.post("/v1/schedules", body).status_code == 201
    assert ada.get("/v1/schedules").status_code == 200
    with database.begin() as tx:
        assert tx.execute(text("SELECT spec->'gpus' FROM schedule")).scalar_one() == 1
