"""No table grows for ever: each has who removes its rows, and what is long gone leaves nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from celery.result import AsyncResult, GroupResult
from sqlalchemy import text

from dccf.celery_app import DccfCelery
from dccf.config import Settings
from dccf.controller import retention
from dccf.store import chords, fleet, tokens
from dccf.store.database import Database
from tests.conftest import celery_of

pytestmark = pytest.mark.postgres

MANUAL = Path(__file__).parents[3] / "docs" / "operations.md"


@pytest.fixture
def celery(settings: Settings, database: Database) -> DccfCelery:
    """An application that has stored results of tasks that are no jobs, and groups of them."""
    celery = celery_of(settings, database)
    for name in ("old", "new", "part"):
        celery.backend.store_result(name, 1, "SUCCESS")
        GroupResult(name, [AsyncResult("t", app=celery)], app=celery).save(backend=celery.backend)
    return celery


@pytest.mark.usefixtures("celery")
def test_the_manual_says_of_every_table_who_removes_its_rows(database: Database) -> None:
    with database.begin() as tx:
        tables = set(tx.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).scalars())
    rules = MANUAL.read_text().partition("Who removes the rows of each table:")[2].partition("\n\nA worker")[0]
    first_cells = re.findall(r"^\| (`.*?) \|", rules, re.MULTILINE)
    named = [name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(named) == sorted(tables)


@pytest.mark.usefixtures("celery")
def test_old_results_go_but_not_those_that_a_chord_still_waits_for(database: Database, settings: Settings) -> None:
    with database.begin() as tx:
        chords.set_size(tx, "part", 2)
        chords.add_part(tx, "part", 0, chords.Part("part", "SUCCESS", "{}"))
        for table, column in (("celery_taskmeta", "task_id"), ("celery_tasksetmeta", "taskset_id")):
            tx.execute(text(f"UPDATE {table} SET date_done = date_done - interval '8 days' WHERE {column} <> 'new'"))

    retention.RetentionWalk(database, settings).run_through()

    assert left(database, "celery_taskmeta", "task_id") == {"new", "part"}
    assert left(database, "celery_tasksetmeta", "taskset_id") == {"new", "part"}


def test_silent_processes_and_tokens_that_ended_long_ago_go(database: Database, settings: Settings) -> None:
    long_ago = {"silent": "8 days", "quiet": "6 days"}
    with database.begin() as tx:
        for name, silence in long_ago.items():
            fleet.beat_worker(tx, name, name, queues=[], slots=1, engine="", version="", message="")
            fleet.beat_controller(tx, name, "", {})
            for table, column in (("worker", "name"), ("controller", "id")):
                query = f"UPDATE {table} SET heartbeat_at = now() - CAST(:silence AS interval) WHERE {column} = :name"
                tx.execute(text(query), {"silence": silence, "name": name})
        for name, column, age in (
            ("revoked", "revoked_at", "91 days"),
            ("expired", "expires_at", "91 days"),
            ("lately", "revoked_at", "89 days"),
            ("valid", "created_at", "900 days"),
        ):
            tokens.add(tx, name, b"", "ann", name, is_admin=False)
            query = f"UPDATE api_token SET {column} = now() - CAST(:age AS interval) WHERE id = :name"
            tx.execute(text(query), {"age": age, "name": name})

    retention.RetentionWalk(database, settings).run_through()

    assert left(database, "worker", "name") == left(database, "controller", "id") == {"quiet"}
    assert left(database, "api_token", "id") == {"lately", "valid"}


def left(database: Database, table: str, column: str) -> set[str]:
    with database.begin() as tx:
        return set(tx.execute(text(f"SELECT {column} FROM {table}")).scalars())
