"""Who is asking: a bearer token, or anybody on this machine where authentication is off."""

from __future__ import annotations

from flask import Flask, g, request

from dccf import errors, loopback
from dccf.api import tokens
from dccf.api.context import services
from dccf.models import Identity

LOCAL = Identity(owner="local", is_admin=True)
#: Endpoints that tell nothing of anybody's jobs.
PUBLIC = frozenset({"health.index", "health.healthz", "health.readyz", "openapi.spec"})


def register(app: Flask) -> None:
    """Make an application ask everybody who they are before anything else happens."""
    app.before_request(_authenticate)


def _authenticate() -> None:
    settings = services().settings
    if settings.auth == "none":
        loopback.require_names(request.host, request.headers.get("Origin"))
        g.identity = LOCAL
        return
    if request.endpoint in PUBLIC:
        return
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() != "bearer" or not token.strip():
        raise errors.NotAuthenticated("this needs a token; send the header 'Authorization: Bearer <token>'")
    found = tokens.identify(services().database, settings, token.strip())
    if found is None:
        raise errors.NotAuthenticated("the token is not valid: it is unknown, revoked or expired")
    g.identity = found
