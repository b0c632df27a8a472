"""API tokens: how they look, how they are hashed, how they are made."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from datetime import datetime

from dccf import errors
from dccf.config import Settings
from dccf.fields import OWNER_NAME
from dccf.models import Identity
from dccf.store import tokens
from dccf.store.database import Database

_FORM = re.compile(r"dccf_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")


def hash_token(token: str, settings: Settings) -> bytes:
    """Hash a token as it is stored; it is random already, so that a slow hash would add nothing."""
    pepper = settings.token_pepper.get_secret_value().encode()
    return hmac.digest(pepper, token.encode(), hashlib.sha256)


def create(
    database: Database,
    settings: Settings,
    owner: str,
    name: str,
    *,
    is_admin: bool = False,
    expires_at: datetime | None = None,
) -> str:
    """Make a token and store its hash; the token itself is never seen again.

    Raises:
        InvalidRequest: this is no name for an owner.
        StoreUnavailable: PostgreSQL is away.
    """
    if not OWNER_NAME.fullmatch(owner):
        raise errors.InvalidRequest(
            f"{owner[:100]!r} is no name for an owner; write letters, digits and . _ @ + -, 200 at most, like ada or "
            "ada@example.org"
        )
    token_id = secrets.token_hex(6)
    token = f"dccf_{token_id}_{secrets.token_urlsafe(32)}"
    with database.begin() as tx:
        tokens.add(tx, token_id, hash_token(token, settings), owner, name, is_admin=is_admin, expires_at=expires_at)
    return token


def identify(database: Database, settings: Settings, token: str) -> Identity | None:
    """Say whom a token speaks for; ``None`` when it is not valid.

    Raises:
        StoreUnavailable: PostgreSQL is away.
    """
    bootstrap = settings.bootstrap_token
    if bootstrap is not None and hmac.compare_digest(bootstrap.get_secret_value().encode(), token.encode()):
        return Identity(owner=settings.bootstrap_owner, is_admin=True)
    match = _FORM.fullmatch(token)
    if match is None:
        return None
    with database.begin() as tx:
        found = tokens.get_valid(tx, match[1])
        if found is None or not hmac.compare_digest(found[0], hash_token(token, settings)):
            return None
        tokens.note_use(tx, match[1])
    return found[1]
