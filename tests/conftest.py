"""Fixtures that all tests share: settings, and a fresh migrated PostgreSQL database per test."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from dccf import config_values, errors
from dccf.celery_app import DccfCelery
from dccf.config import Settings
from dccf.local import postgres
from dccf.local.kafka_errors import JavaMissingError, KafkaDownloadError
from dccf.local.kafka_install import default_cache_dir, ensure_jars, require_java
from dccf.store import backlog, migrate
from dccf.store.database import Database

TEMPLATE = "dccf_template"


def missing(what: str) -> None:
    """Skip on a laptop, fail in CI: there a missing service is a missing install step."""
    if os.environ.get("DCCF_CI") == "1":
        pytest.fail(f"missing in CI: {what}")
    pytest.skip(what)


def why_no_kafka() -> str:
    """Say why Kafka cannot run here; empty when it can."""
    try:
        require_java()
        ensure_jars(default_cache_dir())
    except (JavaMissingError, KafkaDownloadError) as error:
        return str(error)
    return ""


def require_kafka() -> None:
    """Skip where Kafka cannot run; fail in CI."""
    if why := why_no_kafka():
        missing(why)


def broker_for_stacks() -> str:
    """Give the broker that a stack is started with: Kafka, or on a laptop without it the file broker."""
    why = why_no_kafka()
    if why and os.environ.get("DCCF_CI") == "1":
        missing(why)
    return "file" if why else "kafka"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes minutes."""
    soak = [] if os.environ.get("DCCF_SOAK") == "1" else [item for item in items if item.get_closest_marker("soak")]
    if soak:
        config.hook.pytest_deselected(items=soak)
        items[:] = [item for item in items if item not in soak]


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server: the one that is named, else an embedded one in a folder of its own."""
    named = os.environ.get("DCCF_TEST_DATABASE_URL")
    if named:
        yield config_values.normalise_database_url(named)
        return
    # pytest's own temporary folders are closed to other users, and PostgreSQL as root is another user.
    folder = Path(tempfile.mkdtemp(prefix="dccf-test-pg-"))
    folder.chmod(0o755)
    try:
        with postgres.running(folder) as url:
            yield config_values.normalise_database_url(url)
    except errors.LocalStackError as error:
        missing(str(error))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _execute(url: str, statement: str) -> None:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()


def _database_url(server_url: str, name: str) -> str:
    engine = create_engine(server_url)
    url = engine.url.set(database=name).render_as_string(hide_password=False)
    engine.dispose()
    return url


@pytest.fixture(scope="session")
def template(postgres_url: str) -> str:
    """A migrated database that every test's own is copied from."""
    _execute(postgres_url, f"DROP DATABASE IF EXISTS {TEMPLATE}")
    _execute(postgres_url, f"CREATE DATABASE {TEMPLATE}")
    database = Database(_database_url(postgres_url, TEMPLATE))
    migrate.upgrade(database)
    database.close()
    return TEMPLATE


def make_database(server_url: str, template: str) -> tuple[str, str]:
    """Make a migrated database; give its name and URL."""
    name = f"dccf_{uuid.uuid4().hex[:12]}"
    _execute(server_url, f"CREATE DATABASE {name} TEMPLATE {template}")
    return name, _database_url(server_url, name)


def drop_database(server_url: str, name: str) -> None:
    """Remove a database, whoever is still connected."""
    _execute(server_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database(postgres_url: str, template: str) -> Iterator[Database]:
    """A fresh migrated database."""
    name, url = make_database(postgres_url, template)
    database = Database(url, pool_size=10)
    yield database
    database.close()
    drop_database(postgres_url, name)


@pytest.fixture
def settings(database: Database, tmp_path: Path) -> Settings:
    """Settings for the test's database, the file broker and the fake runner."""
    broker = tmp_path / "broker"
    for name in ("messages", "control"):
        (broker / name).mkdir(parents=True)
    return Settings(
        database_url=database.url,
        broker_url="filesystem://localhost",
        broker_folder=broker,
        state_folder=tmp_path / "state",
        runner="fake",
        worker_name="test-worker",
        retry_backoff_seconds=0,
    )


@pytest.fixture
def silent_broker() -> Iterator[socket.socket]:
    """A broker that takes connections and never answers; closed, it refuses them."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def url_of(broker: socket.socket) -> str:
    """Give the broker URL of a listening socket."""
    return f"kafka://127.0.0.1:{broker.getsockname()[1]}/test"


def celery_of(settings: Settings, database: Database) -> DccfCelery:
    """A Celery application that connects to a broker which refuses it twice only, without a pause."""
    celery = DccfCelery("test")
    celery.__dict__.update(settings=settings, database=database)
    celery.conf.broker_transport_options |= {"max_retries": 1, "interval_start": 0, "interval_step": 0}
    return celery


def hints_out(database: Database) -> int:
    """Count the hints that are noted as sent."""
    with database.begin() as tx:
        return sum(backlog.count_in_flight(tx).hinted.values())
