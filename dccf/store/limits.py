"""Queries on limits per owner, and the counts that they are held against."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects.postgresql import insert

from dccf.administration import OwnerLimits, OwnerUsage
from dccf.models import JobState
from dccf.store.tables import job, owner_limit

#: Any fixed number: it keeps these advisory locks apart from others.
_OWNER_LOCKS = 0x0DCC1


def get(tx: Connection, owner: str) -> OwnerLimits:
    """Get what was set for one owner."""
    return get_many(tx, [owner]).get(owner, OwnerLimits())


def get_many(tx: Connection, owners: Collection[str]) -> dict[str, OwnerLimits]:
    """Get what was set for those of the owners for whom something was."""
    rows = tx.execute(select(owner_limit).where(owner_limit.c.owner.in_(owners)))
    return {row.owner: OwnerLimits(running=row.running, queued=row.queued) for row in rows}


def put(tx: Connection, owner: str, limits: OwnerLimits) -> None:
    """Set an owner's limits; ``None`` is the default."""
    values = limits.model_dump()
    statement = insert(owner_limit).values(owner=owner, **values)
    tx.execute(statement.on_conflict_do_update(index_elements=[owner_limit.c.owner], set_=values))


def over_defaults(own: OwnerLimits, defaults: OwnerLimits) -> OwnerLimits:
    """Give the limits that count."""
    return defaults.model_copy(update={name: value for name, value in own if value is not None})


def lock(tx: Connection, owner: str) -> None:
    """Keep others from counting an owner's jobs until the transaction ends."""
    tx.execute(select(func.pg_advisory_xact_lock(_OWNER_LOCKS, func.hashtext(owner))))


def count_running(tx: Connection, owner: str) -> int:
    """Count the jobs of an owner that workers hold."""
    statement = select(func.count()).where(job.c.owner == owner, job.c.lease_expires_at.is_not(None))
    return tx.execute(statement).scalar_one()


def count_queued(tx: Connection, owner: str, at_most: int) -> int:
    """Count the jobs of an owner that wait, up to a number."""
    some = select(job.c.owner).where(job.c.owner == owner, job.c.state == JobState.QUEUED).limit(at_most).subquery()
    return tx.execute(select(func.count()).select_from(some)).scalar_one()


def get_usage(tx: Connection, owner: str | None, defaults: OwnerLimits) -> tuple[OwnerUsage, ...]:
    """List what owners have and may have: one, or all that have jobs now or limits of their own."""
    running = _count_by_owner(tx, owner, is_running=True)
    queued = _count_by_owner(tx, owner, is_running=False)
    if owner is None:
        rows = tx.execute(select(owner_limit.c.owner)).scalars()
        owners = sorted({*running, *queued, *rows})
    else:
        owners = [owner]
    own = get_many(tx, owners)
    return tuple(
        OwnerUsage(
            owner=name,
            limits=over_defaults(own.get(name, OwnerLimits()), defaults),
            own=own.get(name, OwnerLimits()),
            running=running.get(name, 0),
            queued=queued.get(name, 0),
        )
        for name in owners
    )


def _count_by_owner(tx: Connection, owner: str | None, *, is_running: bool) -> dict[str, int]:
    which = job.c.lease_expires_at.is_not(None) if is_running else job.c.state == JobState.QUEUED
    statement = select(job.c.owner, func.count()).where(which).group_by(job.c.owner)
    if owner is not None:
        statement = statement.where(job.c.owner == owner)
    return dict(tx.execute(statement).all())
