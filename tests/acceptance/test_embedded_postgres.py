"""The embedded PostgreSQL is started again when it dies."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from dccf import config_values, errors
from dccf.local import postgres
from dccf.store.database import Database
from tests.processes import wait_for

pytestmark = pytest.mark.postgres


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="dccf-test-pg-"))
    made.chmod(0o755)  # as root it runs as another user
    yield made
    shutil.rmtree(made)


def rows(database: Database) -> int | None:
    try:
        with database.begin() as tx:
            return int(tx.execute(text("SELECT count(*) FROM kept")).scalar_one())
    except errors.StoreUnavailable:
        return None


def pid_of(folder: Path) -> int:
    try:
        return int((folder / "data" / "postmaster.pid").read_text().splitlines()[0])
    except (FileNotFoundError, IndexError):  # just being started
        return 0


def test_it_is_started_again_with_all_that_was_committed(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with postgres.running(folder) as url:
        database = Database(config_values.normalise_database_url(url))
        with database.begin() as tx:
            tx.execute(text("CREATE TABLE kept AS SELECT 1 AS number"))
        first = pid_of(folder)

        os.kill(first, signal.SIGKILL)

        # A process of the dead one may answer once more.
        wait_for("another PostgreSQL", lambda: pid_of(folder) not in {0, first})
        second = pid_of(folder)
        assert wait_for("PostgreSQL to answer again", lambda: rows(database)) == 1
        database.close()
    assert "postgres ended; starting it again" in capfd.readouterr().err
    wait_for("PostgreSQL to be gone", lambda: not postgres.is_alive(second))


def test_while_it_cannot_start_it_is_tried_again(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with postgres.running(folder) as url:
        database = Database(config_values.normalise_database_url(url))
        with database.begin() as tx:
            tx.execute(text("CREATE TABLE kept AS SELECT 1 AS number"))
        version = (folder / "data" / "PG_VERSION").rename(folder / "data" / "PG_VERSION.away")
        os.kill(pid_of(folder), signal.SIGQUIT)
        said: list[str] = []

        def has_failed_twice() -> bool:
            said.append(capfd.readouterr().err)
            return "".join(said).count("postgres does not start") >= 2

        wait_for("two tries in vain", has_failed_twice)
        version.rename(folder / "data" / "PG_VERSION")
        assert wait_for("PostgreSQL to answer again", lambda: rows(database)) == 1
        database.close()
