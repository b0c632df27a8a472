"""Who is asking: a bearer token, or anybody on this machine where authentication is off."""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import Flask, g, request

from dccf import errors
from dccf.api import tokens
from dccf.api.context import services
from dccf.models import Identity

LOCAL = Identity(owner="local", is_admin=True)
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
#: Endpoints that tell nothing of anybody's jobs.
PUBLIC = frozenset({"health.index", "health.healthz", "health.readyz", "openapi.spec"})


def register(app: Flask) -> None:
    """Make an application ask everybody who they are before anything else happens."""
    app.before_request(_authenticate)


def _authenticate() -> None:
    settings = services().settings
    if settings.auth == "none":
        require_loopback_names(request.host, request.headers.get("Origin"))
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


def require_loopback_names(host: str, origin: str | None) -> None:
    """Refuse what a web page elsewhere could have sent, by its own name or by one that it points at us.

    Raises:
        NotAllowed: the request names another host than this machine, or comes from a page of one.
    """
    for header, url in (("Host", f"//{host}"), ("Origin", origin)):
        if url is not None and _host_name(url) not in LOOPBACK_NAMES:
            raise errors.NotAllowed(
                f"authentication is off here, so only this machine may ask; the header {header} names another one"
            )


def _host_name(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
