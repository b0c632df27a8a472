"""Errors as RFC 9457 problems: one shape for everything that goes wrong, in one place."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

from flask import Flask, Response, g, json, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound, RequestEntityTooLarge

from dccf import errors
from dccf.errors import DccfError, FieldError

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 5


class TooBusy(DccfError):
    """Raised when this server has no thread left for another request that waits."""


class Kind(NamedTuple):
    """How one kind of error is answered; ``public`` replaces a text that would tell of our insides."""

    status: int
    code: str
    public: str | None = None


_AWAY = "the service cannot do this right now; try again shortly"

#: The most special class that fits decides.
KINDS: Mapping[type[DccfError], Kind] = {
    errors.InvalidRequest: Kind(422, "invalid_request"),
    errors.IdempotencyMismatch: Kind(422, "idempotency_mismatch"),
    errors.NotFound: Kind(404, "not_found"),
    errors.Conflict: Kind(409, "conflict"),
    errors.LimitReached: Kind(429, "limit_reached"),
    errors.NotAuthenticated: Kind(401, "not_authenticated"),
    errors.NotAllowed: Kind(403, "not_allowed"),
    errors.StoreUnavailable: Kind(503, "store_unavailable", "the database cannot be reached; try again shortly"),
    errors.BrokerUnavailable: Kind(503, "broker_unavailable", _AWAY),
    TooBusy: Kind(503, "too_busy"),
}
_INTERNAL = Kind(500, "internal_error", "something went wrong here; the server's log has it under the request id")
#: What Werkzeug raises, under the names that ours have.
_HTTP_CODES = {404: "not_found", 413: "too_large", 500: "internal_error"}


def kind_of(error: DccfError) -> Kind:
    """Say how an error is answered."""
    for cls in type(error).__mro__:
        if cls in KINDS:
            return KINDS[cls]
    return _INTERNAL


def problem(status: int, code: str, detail: str, fields: tuple[FieldError, ...] = ()) -> dict[str, Any]:
    """Make the body of a problem."""
    return {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": request.path,
        "code": code,
        "request_id": g.get("request_id", ""),
        "errors": [{"pointer": field.pointer, "detail": field.detail} for field in fields],
    }


def respond(status: int, code: str, detail: str, fields: tuple[FieldError, ...] = ()) -> Response:
    """Answer with a problem."""
    response = Response(json.dumps(problem(status, code, detail, fields)), status, content_type=MEDIA_TYPE)
    if status in {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}:
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    if status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = 'Bearer realm="dccf"'
    return response


def _handle_ours(error: DccfError) -> Response:
    kind = kind_of(error)
    if kind.public is not None:
        log.warning("request %s: %s", g.get("request_id", ""), error, exc_info=kind.status == _INTERNAL.status)
    fields = error.errors if isinstance(error, errors.InvalidRequest) else ()
    return respond(kind.status, kind.code, kind.public or str(error), fields)


def _handle_http(error: HTTPException) -> Response:
    status = error.code or 500
    code = _HTTP_CODES.get(status) or re.sub(r"[^a-z]+", "_", HTTPStatus(status).phrase.lower()).strip("_")
    response = respond(status, code, _describe(error, status))
    for name, value in error.get_headers():
        if name.lower() not in {"content-type", "content-length"}:
            response.headers.setdefault(name, value)
    return response


def _describe(error: HTTPException, status: int) -> str:
    """Say what Werkzeug found wrong; its own words for addresses and methods do not say which there are."""
    if isinstance(error, NotFound):
        return f"there is nothing at {request.path[:200]}; /openapi.json says what there is"
    if isinstance(error, MethodNotAllowed):
        taken = ", ".join(sorted(set(error.valid_methods or ()) - {"HEAD", "OPTIONS"}))
        return f"{request.method} does not go with {request.path[:200]}; it takes {taken}"
    return error.description or HTTPStatus(status).phrase


def _handle_unknown(error: Exception) -> Response:
    log.error("request %s failed", g.get("request_id", ""), exc_info=error)
    return respond(_INTERNAL.status, _INTERNAL.code, _INTERNAL.public or "")


def register(app: Flask) -> None:
    """Make an application answer with problems only."""

    def handle_too_large(error: RequestEntityTooLarge) -> Response:
        del error
        is_upload = request.max_content_length == app.config["MAX_CONTENT_LENGTH"]
        setting = " (DCCF_MAX_UPLOAD_BYTES)" if is_upload else ""
        return respond(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            "too_large",
            f"the request is larger than {request.max_content_length} bytes, which is the limit here{setting}",
        )

    app.register_error_handler(DccfError, _handle_ours)
    app.register_error_handler(RequestEntityTooLarge, handle_too_large)
    app.register_error_handler(HTTPException, _handle_http)
    app.register_error_handler(Exception, _handle_unknown)
