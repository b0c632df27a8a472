"""The query by which KEDA scales workers, as it stands in the manifest, on the real schema."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from sqlalchemy import text

from dccf.config import Settings
from dccf.lifecycle import attempts, waiting
from dccf.lifecycle.attempts import Holder
from dccf.store.database import Database
from tests.integration.lifecycle.conftest import SubmitJob

pytestmark = pytest.mark.postgres

SCALER = Path(__file__).parents[3] / "k8s" / "overlays" / "keda" / "scaler.yaml"


def wanted_workers(database: Database) -> int:
    (query,) = (
        trigger["metadata"]["query"]
        for one in yaml.safe_load_all(SCALER.read_text("utf-8"))
        if one["kind"] == "ScaledObject"
        for trigger in one["spec"]["triggers"]
    )
    with database.begin() as tx:
        return int(tx.execute(text(query)).scalar_one())


def test_a_worker_is_wanted_for_each_two_jobs_that_run_or_could_run(
    database: Database, settings: Settings, submit_job: SubmitJob, me: Holder
) -> None:
    assert wanted_workers(database) == 0
    running = submit_job()
    attempts.claim(database, settings, running.id, me)
    submit_job()
    assert wanted_workers(database) == 1
    submit_job()
    assert wanted_workers(database) == 2

    submit_job({"run_after": datetime.now(UTC) + timedelta(hours=1)})
    submit_job({"queue": "elsewhere"})
    assert wanted_workers(database) == 2

    waiting.pause_queue(database, "default", "ann")
    assert wanted_workers(database) == 1
