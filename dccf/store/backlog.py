"""Queries on who waits for a first hint, and what is on its way already; each reads a few rows of one index."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias
from uuid import UUID

from sqlalchemy import Connection, func, select, text

from dccf.store.database import prefer_index_order

#: A queue and an owner who has jobs in it.
Lane: TypeAlias = "tuple[str, str]"

#: Any fixed number: it keeps these advisory locks apart from others.
_QUEUE_LOCKS = 0x0DCC2

# Jumps from one queue to the next in the index, and tries to lock those that are not paused.
_LOCKED_QUEUES = text("""
    WITH RECURSIVE found AS (
        (SELECT queue FROM job WHERE state = 'queued' AND hints = 0 ORDER BY queue LIMIT 1)
        UNION ALL
        SELECT next.queue FROM found, LATERAL (
            SELECT queue FROM job WHERE state = 'queued' AND hints = 0 AND queue > found.queue ORDER BY queue LIMIT 1
        ) next
    )
    SELECT queue, pg_try_advisory_xact_lock(:locks, hashtext(queue)) AS is_ours
    FROM found WHERE queue NOT IN (SELECT queue FROM queue_pause)
""")

# Jumps from one owner to the next in the index, and looks at the first job of each: its cost is the number of lanes,
# not of jobs.
_LANES = text("""
    SELECT named.queue, lane.owner FROM unnest(CAST(:queues AS text[])) named (queue), LATERAL (
        WITH RECURSIVE lane AS (
            (SELECT owner FROM job WHERE state = 'queued' AND hints = 0 AND job.queue = named.queue
                ORDER BY owner LIMIT 1)
            UNION ALL
            SELECT next.owner FROM lane, LATERAL (
                SELECT owner FROM job WHERE state = 'queued' AND hints = 0 AND job.queue = named.queue
                    AND job.owner > lane.owner ORDER BY owner LIMIT 1
            ) next
        )
        SELECT owner FROM lane WHERE now() >= (
            SELECT hint_after FROM job WHERE state = 'queued' AND hints = 0 AND job.queue = named.queue
                AND job.owner = lane.owner ORDER BY hint_after, id LIMIT 1
        )
    ) lane
""")

_IN_FLIGHT = text("""
    SELECT queue, owner, count(*) AS jobs, false AS is_running FROM job
    WHERE state = 'queued' AND hints > 0 GROUP BY queue, owner
    UNION ALL
    SELECT queue, owner, count(*) AS jobs, true AS is_running FROM job
    WHERE lease_expires_at IS NOT NULL GROUP BY queue, owner
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
        return self._by_owner[owner]

    def hinted_in(self, queue: str) -> int:
        """Count the hints that the broker holds for one queue."""
        return self._hinted_by_queue[queue]

    @cached_property
    def _by_owner(self) -> Counter[str]:
        counts: Counter[str] = Counter()
        for (_, owner), jobs in (*self.hinted.items(), *self.running.items()):
            counts[owner] += jobs
        return counts

    @cached_property
    def _hinted_by_queue(self) -> Counter[str]:
        counts: Counter[str] = Counter()
        for (queue, _), jobs in self.hinted.items():
            counts[queue] += jobs
        return counts


def lock_queues(tx: Connection) -> set[str]:
    """Keep others from sending first hints; give the queues locked, those with some to send that are not paused."""
    return {row.queue for row in tx.execute(_LOCKED_QUEUES, {"locks": _QUEUE_LOCKS}) if row.is_ours}


def find_lanes(tx: Connection, queues: Collection[str]) -> tuple[Lane, ...]:
    """List, for some queues, the owners with jobs whose first hint is due."""
    if not queues:
        return ()
    return tuple((row.queue, row.owner) for row in tx.execute(_LANES, {"queues": sorted(queues)}))


def try_lock(tx: Connection, queue: str) -> bool:
    """Keep others from sending first hints of a queue; tell whether nobody else does."""
    return bool(tx.execute(select(func.pg_try_advisory_xact_lock(_QUEUE_LOCKS, func.hashtext(queue)))).scalar())


def count_in_flight(tx: Connection) -> InFlight:
    """Count what is on its way, of all queues and owners: as much as there are slots and hints out."""
    hinted: dict[Lane, int] = {}
    running: dict[Lane, int] = {}
    for row in tx.execute(_IN_FLIGHT):
        (running if row.is_running else hinted)[row.queue, row.owner] = row.jobs
    return InFlight(hinted, running)


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
