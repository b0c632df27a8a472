"""Ids of jobs: UUID version 7 when we make them, so that they sort by time (RFC 9562, section 5.7)."""

from __future__ import annotations

import secrets
import time
from uuid import UUID

from dccf import errors


def new_job_id() -> UUID:
    """Make a UUIDv7: 48 bits of milliseconds, the rest random."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds << 80) | secrets.randbits(80)
    value = value & ~(0xF << 76) | (0x7 << 76)  # version
    value = value & ~(0x3 << 62) | (0x2 << 62)  # variant
    return UUID(int=value)


def parse_job_id(text: str) -> UUID:
    """Read a job id as people and Celery write it.

    Raises:
        InvalidRequest: the text is no UUID.
    """
    try:
        return UUID(text)
    except ValueError as error:
        raise errors.InvalidRequest(f"{text[:100]!r} is not a job id; ids look like {new_job_id()}") from error
