"""Queries on who waits for a first hint, and what is on its way already; each reads a few rows of one index."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

from sqlalchemy import Connection, func, select, text

from dccf.models import JobState
from dccf.store.database import prefer_index_order
from dccf.store.tables import job

#: A queue and an owner who has jobs in it.
Lane: TypeAlias = "tuple[str, str]"

#: Any fixed number: it keeps these advisory locks apart from others.
_QUEUE_LOCKS = 0x0DCC2

# Jumps from one queue and owner to the next in the index: its cost is the number of lanes, not of jobs.
_LANES = text("""
    WITH RECURSIVE lane AS (
        (SELECT queue, owner FROM job WHERE state = 'queued' AND hints = 0 ORDER BY queue, owner LIMIT 1)
        UNION ALL
        SELECT next.queue, next.owner FROM lane, LATERAL (
            SELECT queue, owner FROM job
            WHERE state = 'queued' AND hints = 0 AND (queue, owner) > (lane.queue, lane.owner)
            ORDER BY queue, owner LIMIT 1
        ) next
    )
    SELECT queue, owner FROM lane
""")

_DUE = text("""
    SELECT lane.queue, lane.owner, due.id FROM unnest(:queues, :owners, :counts) lane (queue, owner, count), LATERAL (
        SELECT id, hint_after FROM job
        WHERE state = 'queued' AND hints = 0 AND job.queue = lane.queue AND job.owner = lane.owner
            AND hint_after <= now()
        ORDER BY hint_after, id LIMIT lane.count
    ) due
    ORDER BY due.hint_after, due.id
""")

# Ten are enough to know: it only keeps a new job from passing others that are due.
_ANY_DUE = text("""
    SELECT EXISTS (
        SELECT FROM (
            SELECT hint_after FROM job
            WHERE state = 'queued' AND hints = 0 AND queue = :queue AND id <> :job_id LIMIT 10
        ) others WHERE hint_after <= now()
    )
""")


@dataclass(frozen=True)
class InFlight:
    """Jobs by queue and owner: whose hint is with the broker, and which workers hold."""

    hinted: Mapping[Lane, int]
    running: Mapping[Lane, int]

    def of_lane(self, lane: Lane) -> int:
        """Count both for one owner in one queue."""
        return self.hinted.get(lane, 0) + self.running.get(lane, 0)

    def of_owner(self, owner: str) -> int:
        """Count both for one owner in all queues."""
        return sum(
            count for counts in (self.hinted, self.running) for lane, count in counts.items() if lane[1] == owner
        )

    def hinted_in(self, queue: str) -> int:
        """Count the hints that the broker holds for one queue."""
        return sum(count for lane, count in self.hinted.items() if lane[0] == queue)


def find_lanes(tx: Connection) -> tuple[Lane, ...]:
    """List the queues and owners with jobs that no hint was sent for, due or not."""
    return tuple((row.queue, row.owner) for row in tx.execute(_LANES))


def try_lock(tx: Connection, queues: Collection[str]) -> set[str]:
    """Keep others from sending first hints of these queues; give those that nobody else has."""
    if not queues:
        return set()
    names = func.unnest(sorted(queues)).table_valued("name")
    statement = select(names.c.name, func.pg_try_advisory_xact_lock(_QUEUE_LOCKS, func.hashtext(names.c.name)))
    return {name for name, is_ours in tx.execute(statement) if is_ours}


def count_in_flight(tx: Connection) -> InFlight:
    """Count what is on its way, of all queues and owners: as much as there are slots and hints out."""
    counted = select(job.c.queue, job.c.owner, func.count().label("jobs")).group_by(job.c.queue, job.c.owner)
    hinted = tx.execute(counted.where(job.c.state == JobState.QUEUED, job.c.hints > 0))
    running = tx.execute(counted.where(job.c.lease_expires_at.is_not(None)))
    return InFlight(
        {(row.queue, row.owner): row.jobs for row in hinted},
        {(row.queue, row.owner): row.jobs for row in running},
    )


def find_due(tx: Connection, counts: Mapping[Lane, int]) -> dict[Lane, list[UUID]]:
    """List, oldest first, up to so many jobs of each queue and owner whose first hint is due."""
    if not counts:
        return {}
    prefer_index_order(tx)
    found: dict[Lane, list[UUID]] = {}
    values = {
        "queues": [queue for queue, _ in counts],
        "owners": [owner for _, owner in counts],
        "counts": list(counts.values()),
    }
    for row in tx.execute(_DUE, values):
        found.setdefault((row.queue, row.owner), []).append(row.id)
    return found


def is_any_due(tx: Connection, queue: str, job_id: UUID) -> bool:
    """Tell whether other jobs of a queue already wait for their first hint."""
    return bool(tx.execute(_ANY_DUE, {"queue": queue, "job_id": job_id}).scalar_one())
