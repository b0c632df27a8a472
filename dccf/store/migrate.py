"""Brings a database to the schema that this version of DCCF needs."""

from __future__ import annotations

import time
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from dccf import errors
from dccf.store.database import Database

#: Any fixed number: two migrators on one database take turns on it.
_LOCK = 0x0DCCF
_LOOK_SECONDS = 1.0


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def upgrade(database: Database) -> None:
    """Migrate to the newest schema; safe to call from several processes at once.

    Raises:
        StoreUnavailable: PostgreSQL is away.
    """
    with database.begin() as tx:
        # A new index on a large table, or another migrator that makes one, takes longer than any other statement may.
        tx.execute(text("SET LOCAL statement_timeout = 0"))
        tx.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        command.upgrade(_config(tx), "head")


def is_current(database: Database) -> bool:
    """Tell whether the database has the schema that this version needs.

    Raises:
        StoreUnavailable: PostgreSQL is away.
    """
    head = ScriptDirectory.from_config(_config()).get_current_head()
    with database.begin() as tx:
        return MigrationContext.configure(tx).get_current_revision() == head


def wait_until_current(database: Database, timeout_seconds: float) -> None:
    """Wait until the database answers and has the schema that this version needs.

    Raises:
        StoreUnavailable: it did not within the time.
    """
    deadline = time.monotonic() + timeout_seconds
    last: errors.StoreUnavailable | None = None
    while True:
        try:
            if is_current(database):
                return
            last = None
        except errors.StoreUnavailable as error:
            last = error
        if time.monotonic() > deadline:
            raise last or errors.StoreUnavailable(
                f"the schema is still not the one that this version needs after {timeout_seconds:g} s; "
                "run: dccf db upgrade"
            )
        time.sleep(_LOOK_SECONDS)
