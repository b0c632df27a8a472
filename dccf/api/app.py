"""Makes the application: settings in, Flask out."""

from __future__ import annotations

import re
import secrets
import threading

from apiflask import APIFlask
from flask import Flask, Response, g, request

import dccf
from dccf.api import (
    aliases,
    artifacts,
    auth,
    controllers,
    errors,
    health,
    jobs,
    limits,
    logs,
    metrics,
    openapi,
    queues,
    schedules,
    workers,
)
from dccf.api.changes import Changes
from dccf.api.context import EXTENSION, Services, waiting_places
from dccf.celery_app import DccfCelery
from dccf.celery_app.sender import EXIT_SECONDS
from dccf.config import Settings
from dccf.errors import InvalidRequest
from dccf.store.database import Database

REQUEST_ID = "X-Request-Id"
_REQUEST_ID_FORM = re.compile(r"[A-Za-z0-9._-]{1,64}")
#: Connections of one process: more would only queue inside PostgreSQL.
_POOL_SIZE = 16


def create_app(settings: Settings, database: Database | None = None, celery: DccfCelery | None = None) -> Flask:
    """Make the HTTP API. Nothing is connected before the first request."""
    database = database or Database(settings.database_url, pool_size=_POOL_SIZE)
    app = APIFlask(
        "dccf.api", title="DCCF", version=dccf.__version__, json_errors=False, docs_path=None, spec_path=None
    )
    app.config["MAX_CONTENT_LENGTH"] = settings.max_upload_bytes
    app.extensions[EXTENSION] = Services(
        settings,
        database,
        celery or _make_celery(settings, database),
        Changes(database),
        threading.BoundedSemaphore(waiting_places(settings.api_threads)),
    )
    app.before_request(_name_request)
    metrics.register(app, database)  # before the question who is asking: what is refused counts too
    app.after_request(_add_headers)
    app.before_request(_refuse_nul)
    auth.register(app)
    errors.register(app)
    for module in (jobs, logs, artifacts, workers, controllers, limits, queues, schedules, health, aliases, openapi):
        app.register_blueprint(module.bp)
    openapi.register(app)
    return app


def close_app(app: Flask) -> None:
    """Close what an application holds: its threads and its connections."""
    shared: Services = app.extensions[EXTENSION]
    shared.changes.close()
    shared.celery.hint_sender.wait(EXIT_SECONDS)
    shared.database.close()


def _make_celery(settings: Settings, database: Database) -> DccfCelery:
    """Make a Celery application of our own settings, not of whatever the environment says."""
    celery = DccfCelery("dccf")
    celery.settings = settings
    celery.database = database
    return celery


def _name_request() -> None:
    given = request.headers.get(REQUEST_ID, "")
    g.request_id = given if _REQUEST_ID_FORM.fullmatch(given) else secrets.token_hex(8)


def _refuse_nul() -> None:
    """Refuse in one place what no name of ours has, and PostgreSQL's text cannot hold."""
    if "\0" in request.path or b"%00" in request.query_string:
        raise InvalidRequest("the address contains a NUL character (%00)")


def _add_headers(response: Response) -> Response:
    response.headers[REQUEST_ID] = g.get("request_id", "")
    response.headers.setdefault("Cache-Control", "no-store")
    return response
