"""Health: is the process up, is everything there; and where to go from the root."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Literal, NamedTuple

from apiflask import APIBlueprint
from flask import Response, json

import dccf
from dccf import errors
from dccf.api.answers import JSON
from dccf.api.context import services
from dccf.store import fleet, migrate
from dccf.store.database import Database

bp = APIBlueprint("health", __name__, tag="Health")


class Check(NamedTuple):
    """One thing that was looked at. ``warn`` does not keep requests from being answered; ``fail`` does."""

    status: Literal["ok", "warn", "fail"]
    detail: str


def _check_database(database: Database) -> Check:
    database.ping()
    return Check("ok", "PostgreSQL answers")


def _check_migrations(database: Database) -> Check:
    if migrate.is_current(database):
        return Check("ok", "the schema is the one that this version needs")
    return Check("fail", "the schema is not the one that this version needs; run: dccf db upgrade")


def _check_controllers(database: Database) -> Check:
    with database.begin() as tx:
        count = fleet.count_live_controllers(tx)
    if count:
        return Check("ok", f"{count} alive")
    return Check("warn", "none is alive; jobs of lost workers stay where they are. Start one: dccf controller")


def _check_workers(database: Database) -> Check:
    with database.begin() as tx:
        alive = [worker for worker in fleet.get_workers(tx) if worker.is_alive]
    able = [worker for worker in alive if not worker.message]
    if able:
        return Check("ok", f"{len(able)} alive with {sum(worker.slots for worker in able)} slots")
    if alive:
        return Check("warn", f"{len(alive)} alive, but none takes jobs; /v1/workers says why")
    return Check("warn", "none is alive; jobs wait. Start one: dccf worker")


CHECKS: dict[str, Callable[[Database], Check]] = {
    "database": _check_database,
    "migrations": _check_migrations,
    "controllers": _check_controllers,
    "workers": _check_workers,
}


def run_checks(database: Database) -> dict[str, Check]:
    """Look at everything that the service needs; never raises for something that is away."""
    results: dict[str, Check] = {}
    for name, check in CHECKS.items():
        base = results.get("migrations") or results.get("database")
        if base is not None and base.status == "fail":
            results[name] = Check("fail", "not looked at: what it needs is not there")
            continue
        try:
            results[name] = check(database)
        except errors.StoreUnavailable:
            results[name] = Check("fail", "PostgreSQL cannot be reached")
    return results


@bp.get("/healthz")
def healthz() -> Response:
    """Say that the process is up; looks at nothing else."""
    return Response(json.dumps({"status": "ok"}), content_type=JSON)


@bp.get("/readyz")
def readyz() -> Response:
    """Say whether requests can be answered: `503` when the database or its schema is not there.

    No worker or controller is a warning only: jobs are taken in all the same and wait.
    """
    results = run_checks(services().database)
    is_ready = all(check.status != "fail" for check in results.values())
    body = {"ready": is_ready, "checks": {name: check._asdict() for name, check in results.items()}}
    return Response(
        json.dumps(body), HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE, content_type=JSON
    )


@bp.get("/")
def index() -> Response:
    """Say what this is and where to go."""
    links = {"jobs": "/v1/jobs", "workers": "/v1/workers", "ready": "/readyz", "openapi": "/openapi.json"}
    return Response(json.dumps({"name": "dccf", "version": dccf.__version__, "links": links}), content_type=JSON)
