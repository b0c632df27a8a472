"""Queries on API tokens; only their hashes are kept."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, insert, or_, select, update

from dccf.models import Identity
from dccf.store.tables import api_token

#: The columns of a token that are points in time.
TIMES = ("created_at", "expires_at", "last_used_at", "revoked_at")


def add(
    tx: Connection,
    token_id: str,
    token_hash: bytes,
    owner: str,
    name: str,
    *,
    is_admin: bool,
    expires_at: datetime | None = None,
) -> None:
    """Store a new token."""
    tx.execute(
        insert(api_token).values(
            id=token_id, token_hash=token_hash, owner=owner, name=name, is_admin=is_admin, expires_at=expires_at
        )
    )


def get_valid(tx: Connection, token_id: str) -> tuple[bytes, Identity] | None:
    """Get the hash of a token that is neither revoked nor expired, and whom it speaks for."""
    statement = select(api_token).where(
        api_token.c.id == token_id,
        api_token.c.revoked_at.is_(None),
        or_(api_token.c.expires_at.is_(None), api_token.c.expires_at > func.now()),
    )
    row: Row[Any] | None = tx.execute(statement).first()
    if row is None:
        return None
    return bytes(row.token_hash), Identity(owner=row.owner, is_admin=row.is_admin)


def list_all(tx: Connection, owner: str | None = None) -> list[dict[str, Any]]:
    """List tokens, newest first, without their hashes; of one owner or of all."""
    shown = [column for column in api_token.columns if column is not api_token.c.token_hash]
    statement = select(*shown).order_by(api_token.c.created_at.desc(), api_token.c.id)
    if owner is not None:
        statement = statement.where(api_token.c.owner == owner)
    return [dict(row) for row in tx.execute(statement).mappings()]


def note_use(tx: Connection, token_id: str) -> None:
    """Note that a token was used, at most once a minute."""
    long_ago = func.now() - func.make_interval(0, 0, 0, 0, 0, 1)
    tx.execute(
        update(api_token)
        .where(
            api_token.c.id == token_id,
            or_(api_token.c.last_used_at.is_(None), api_token.c.last_used_at < long_ago),
        )
        .values(last_used_at=func.now())
    )


def revoke(tx: Connection, token_id: str) -> bool:
    """Make a token invalid; tell whether it was valid."""
    statement = (
        update(api_token)
        .where(api_token.c.id == token_id, api_token.c.revoked_at.is_(None))
        .values(revoked_at=func.now())
        .returning(api_token.c.id)
    )
    return tx.execute(statement).first() is not None
