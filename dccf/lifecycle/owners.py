"""Limits per owner: how many jobs may wait, and how many may run at once."""

from __future__ import annotations

import sys

from sqlalchemy import Connection

from dccf import errors
from dccf.administration import OwnerLimits, OwnerUsage
from dccf.config import Settings
from dccf.store import limits
from dccf.store.database import Database

#: This near to the limit, submits of one owner take turns, so that they cannot pass it together.
_NEAR = 100


def defaults(settings: Settings) -> OwnerLimits:
    """Give the limits of owners who have none of their own."""
    return OwnerLimits(running=settings.owner_running_limit, queued=settings.owner_queued_limit)


def get_limits(tx: Connection, settings: Settings, owner: str) -> OwnerLimits:
    """Give the limits that count for an owner."""
    return limits.over_defaults(limits.get(tx, owner), defaults(settings))


def running_limit(settings: Settings, own: OwnerLimits | None) -> int:
    """Give the number of jobs that an owner may have running; a very large one where there is no limit."""
    limit = limits.over_defaults(own or OwnerLimits(), defaults(settings)).running
    return sys.maxsize if limit is None else limit


def check_queued(tx: Connection, settings: Settings, owner: str) -> None:
    """Refuse a job that this transaction has just made if its owner now has more waiting than allowed.

    Raises:
        LimitReached: they have.
    """
    limit = get_limits(tx, settings, owner).queued
    if limit is None:
        return
    count = limits.count_queued(tx, owner, limit + 1)
    if count + _NEAR > limit:
        limits.lock(tx, owner)
        count = limits.count_queued(tx, owner, limit + 1)
    if count > limit:
        raise errors.LimitReached(
            f"owner {owner} has {limit} jobs waiting, which is the limit; submit again when some have started, "
            f"or ask the administrator for more (dccf limits set {owner} --queued N)"
        )


def get_usage(database: Database, settings: Settings, owner: str | None) -> tuple[OwnerUsage, ...]:
    """List what owners have and may have; ``None`` means all of them.

    Raises:
        StoreUnavailable: PostgreSQL is away.
    """
    with database.begin() as tx:
        return limits.get_usage(tx, owner, defaults(settings))


def set_limits(database: Database, settings: Settings, owner: str, own: OwnerLimits) -> OwnerUsage:
    """Set an owner's limits; what is ``None`` is as the settings say. Jobs that run go on.

    Raises:
        StoreUnavailable: PostgreSQL is away.
    """
    with database.begin() as tx:
        limits.put(tx, owner, own)
        return limits.get_usage(tx, owner, defaults(settings))[0]
