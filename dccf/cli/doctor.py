"""``dccf doctor``: what is there, what is missing, and what to do about it."""

from __future__ import annotations

import http.client
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple
from urllib.parse import urlsplit

import click

from dccf import config, errors
from dccf.cli import exits, output
from dccf.cli.options import client, with_json
from dccf.config import Settings
from dccf.errors import DccfError

_TIMEOUT_SECONDS = 3.0


class Finding(NamedTuple):
    """One thing that was looked at: ``ok``, ``warn`` (works without) or ``fail``."""

    name: str
    status: str
    detail: str


@click.command()
@click.option("--worker", "is_for_worker", is_flag=True, help="Try the walls around jobs on this worker's daemon.")
@with_json
def doctor(as_json: bool, is_for_worker: bool) -> None:
    """Look whether everything is there; exit code 1 when something needed is not."""
    findings = list(_self_test() if is_for_worker else _look())
    if as_json:
        output.show_json([finding._asdict() for finding in findings])
    else:
        width = max(12, *(len(finding.name) for finding in findings))
        for finding in findings:
            click.echo(f"{finding.status:<5} {finding.name:<{width}} {finding.detail}")
    if any(finding.status == "fail" for finding in findings):
        raise SystemExit(exits.FAILURE)


def _self_test() -> Iterator[Finding]:
    from dccf.runner import selftest

    for check in selftest.run(config.load()):
        yield Finding(check.name, "ok" if check.passed else "fail" if check.is_required else "warn", check.detail)


def _look() -> Iterator[Finding]:
    is_server = config.variable_of("database_url") in os.environ or config.CONFIG_VARIABLE in os.environ
    yield from _look_at_api(is_needed=not is_server)
    if not is_server:
        yield Finding("settings", "ok", "no server settings here (DCCF_DATABASE_URL); the rest is for servers")
        return
    try:
        settings = config.load()
    except errors.ConfigError as error:
        yield Finding("settings", "fail", str(error))
        return
    yield Finding("settings", "ok", "complete")
    yield from _look_at_database(settings)
    yield _look_at_broker(settings)
    yield _look_at_docker(settings)


def _look_at_api(*, is_needed: bool) -> Iterator[Finding]:
    away = "fail" if is_needed else "warn"
    made = client()
    try:
        readiness = made.readiness()
    except DccfError as error:
        yield Finding("api", away, str(error))
        return
    yield Finding("api", "ok", f"{made.where.url} answers (from {made.where.source})")
    for name, check in readiness.get("checks", {}).items():
        yield Finding(f"api:{name}", str(check["status"]), str(check["detail"]))
    try:
        made.list_jobs(limit=1)
    except DccfError as error:
        yield Finding("token", away, f"{error}. Set DCCF_TOKEN, or make one: dccf token create")
    else:
        yield Finding("token", "ok", "the API takes it")


def _look_at_database(settings: Settings) -> Iterator[Finding]:
    from dccf.store import fleet, migrate
    from dccf.store.database import Database

    database = Database(settings.database_url)
    try:
        database.ping()
        yield Finding("database", "ok", "PostgreSQL answers")
        if not migrate.is_current(database):
            yield Finding("migrations", "fail", "the schema is not the one that is needed; run: dccf db upgrade")
            return
        yield Finding("migrations", "ok", "the schema is the one that is needed")
        with database.begin() as tx:
            controllers = fleet.count_live_controllers(tx)
            workers = [worker for worker in fleet.get_workers(tx) if worker.is_alive]
    except errors.StoreUnavailable as error:
        yield Finding("database", "fail", str(error))
        return
    finally:
        database.close()
    yield _count("controllers", controllers, "dccf controller")
    yield _count("workers", len(workers), "dccf worker")
    for worker in workers:
        if worker.message:
            yield Finding("workers", "warn", f"{worker.name} takes no jobs: {worker.message}")


def _count(name: str, count: int, command: str) -> Finding:
    if count:
        return Finding(name, "ok", f"{count} alive")
    return Finding(name, "fail", f"none is alive; start one: {command}")


def _look_at_broker(settings: Settings) -> Finding:
    from dccf.celery_app import app
    from dccf.celery_app.dispatch import mapped_errors

    try:
        with mapped_errors(app), app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=_TIMEOUT_SECONDS)
    except errors.BrokerUnavailable as error:
        return Finding("broker", "fail", f"{error}. Is it running, and is DCCF_BROKER_URL right?")
    return Finding("broker", "ok", f"{urlsplit(settings.broker_url).scheme} answers")


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket, as Docker speaks it."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_TIMEOUT_SECONDS)
        self.sock.connect(self._path)


@contextmanager
def _docker(url: str) -> Iterator[http.client.HTTPConnection]:
    parts = urlsplit(url)
    connection = (
        _UnixConnection(parts.path)
        if parts.scheme == "unix"
        else http.client.HTTPConnection(parts.hostname or "", parts.port or 2375, timeout=_TIMEOUT_SECONDS)
    )
    try:
        yield connection
    finally:
        connection.close()


def _look_at_docker(settings: Settings) -> Finding:
    if settings.runner == "fake":
        return Finding("docker", "ok", "not needed: DCCF_RUNNER=fake")
    try:
        with _docker(settings.docker_url) as connection:
            connection.request("GET", "/_ping")
            status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        # Only a worker's machine needs one.
        return Finding("docker", "warn", f"{settings.docker_url} does not answer ({error}); a worker here needs it")
    if status != http.HTTPStatus.OK:
        return Finding("docker", "warn", f"{settings.docker_url} answers {status}; a worker here needs it")
    return Finding("docker", "ok", f"{settings.docker_url} answers")
