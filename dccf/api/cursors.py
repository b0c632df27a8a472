"""Cursors of listings: the key that the next page starts after, opaque to clients."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from uuid import UUID

from dccf import errors
from dccf.errors import FieldError
from dccf.fields import require_aware


def encode(key: tuple[datetime, UUID]) -> str:
    """Write a key as a cursor."""
    created_at, job_id = key
    return base64.urlsafe_b64encode(f"{created_at.isoformat()} {job_id}".encode()).decode().rstrip("=")


def decode(cursor: str) -> tuple[datetime, UUID]:
    """Read a cursor.

    Raises:
        InvalidRequest: it is none that :func:`encode` made.
    """
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        created_at, _, job_id = base64.b64decode(padded, altchars=b"-_", validate=True).decode().partition(" ")
        return require_aware(datetime.fromisoformat(created_at)), UUID(job_id)
    except (ValueError, binascii.Error) as error:
        detail = "the cursor is not one of ours; take it from next_cursor"
        raise errors.InvalidRequest(detail, (FieldError("#/cursor", detail),)) from error
