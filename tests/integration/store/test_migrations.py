"""Migrated and declared schema are the same."""

from __future__ import annotations

import threading

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from dccf import errors
from dccf.store import database as database_module
from dccf.store import migrate
from dccf.store.database import Database
from dccf.store.tables import metadata

pytestmark = pytest.mark.postgres


def test_the_migrated_schema_is_the_declared_one(database: Database) -> None:
    with database.begin() as tx:
        context = MigrationContext.configure(tx, opts={"compare_server_default": True})
        assert compare_metadata(context, metadata) == []
    assert migrate.is_current(database)


def test_check_constraints_are_the_declared_ones(database: Database) -> None:
    declared = {
        str(constraint.name)
        for table in metadata.tables.values()
        for constraint in table.constraints
        if constraint.__visit_name__ in {"check_constraint", "table_or_column_check_constraint"}
    }
    with database.begin() as tx:
        found = set(tx.execute(text("SELECT conname FROM pg_constraint WHERE contype = 'c'")).scalars())
    assert declared <= found


def test_several_migrators_at_once_do_no_harm(database: Database) -> None:
    threads = [threading.Thread(target=migrate.upgrade, args=(database,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert migrate.is_current(database)


def test_a_migration_may_take_longer_than_other_statements(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "_SERVER_OPTIONS", "-c statement_timeout=50ms")
    hasty = Database(database.url)
    with database.begin() as tx:
        tx.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": migrate._LOCK})
        migrator = threading.Thread(target=migrate.upgrade, args=(hasty,))
        migrator.start()
        migrator.join(0.5)
        waited = migrator.is_alive()
    migrator.join(30)
    hasty.close()
    assert waited


def test_waiting_ends_at_once_where_the_schema_is_there(database: Database) -> None:
    migrate.wait_until_current(database, timeout_seconds=0)


def test_waiting_for_a_schema_that_does_not_come_says_what_brings_it(database: Database) -> None:
    with database.begin() as tx:
        tx.execute(text("DELETE FROM alembic_version"))

    with pytest.raises(errors.StoreUnavailable, match="run: dccf db upgrade"):
        migrate.wait_until_current(database, timeout_seconds=0)
