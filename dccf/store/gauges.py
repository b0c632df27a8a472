"""How much waits and runs now, by queue; what is read is bounded, whatever people have submitted."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, func, select, text

from dccf.store.database import prefer_index_order
from dccf.store.tables import job

#: Waiting jobs of one queue that are counted; as many, or more, are told as this many.
MOST_COUNTED = 10_000
#: Queues that are looked at beside those that are named; and owners of each, for the oldest job.
_MOST_QUEUES = 100
_MOST_OWNERS = 200

# Jumps from one queue to the next in the index.
_QUEUES = text("""
    WITH RECURSIVE found AS (
        (SELECT queue, 1 AS number FROM job WHERE state = 'queued' AND hints = 0 ORDER BY queue LIMIT 1)
        UNION ALL
        SELECT next.queue, found.number + 1 FROM found, LATERAL (
            SELECT queue FROM job WHERE state = 'queued' AND hints = 0 AND queue > found.queue ORDER BY queue LIMIT 1
        ) next WHERE found.number < :most
    )
    SELECT queue FROM found
""")

# Counts the entries of each queue, up to a number. Its oldest job is one of those whose turn is next, one an owner:
# a hint that was taken back goes to the end, but the job keeps the time since when it may start.
_WAITING = text("""
    SELECT named.queue, counted.jobs, oldest.seconds FROM unnest(CAST(:queues AS text[])) named (queue),
    LATERAL (
        SELECT count(*) AS jobs FROM (
            SELECT FROM job WHERE state = 'queued' AND hints = 0 AND job.queue = named.queue LIMIT :most
        ) entries
    ) counted,
    LATERAL (
        WITH RECURSIVE lane AS (
            (SELECT owner, 1 AS number FROM job WHERE state = 'queued' AND hints = 0 AND job.queue = named.queue
                ORDER BY owner LIMIT 1)
            UNION ALL
            SELECT next.owner, lane.number + 1 FROM lane, LATERAL (
                SELECT owner FROM job WHERE state = 'queued' AND hints = 0 AND job.queue = named.queue
                    AND job.owner > lane.owner ORDER BY owner LIMIT 1
            ) next WHERE lane.number < :owners
        )
        SELECT max(extract(epoch FROM now() - first.run_after)) AS seconds FROM lane, LATERAL (
            SELECT run_after FROM job WHERE state = 'queued' AND hints = 0 AND job.queue = named.queue
                AND job.owner = lane.owner ORDER BY hint_after, id LIMIT 1
        ) first
    ) oldest
""")


@dataclass(frozen=True)
class QueueGauges:
    """One queue: jobs that wait, hints out for them, seconds since the oldest may start, jobs by active state."""

    queued: int = 0
    hinted: int = 0
    oldest_seconds: float = 0.0
    active: tuple[tuple[str, int], ...] = ()


def read(tx: Connection, named: Collection[str]) -> dict[str, QueueGauges]:
    """Read the gauges of the queues that are named; those of all others are added up under an empty name.

    Anybody may name a queue in a job, so only those that somebody works for, or has paused, are told apart.
    """
    prefer_index_order(tx)
    waiting = _waiting(tx, {*named, *tx.execute(_QUEUES, {"most": _MOST_QUEUES}).scalars()})
    hinted = _hinted(tx)
    active = _active(tx)
    gauges: dict[str, QueueGauges] = {queue: QueueGauges() for queue in named}
    for queue in {*waiting, *hinted, *active}:
        jobs, oldest = waiting.get(queue, (0, 0.0))
        out, oldest_out = hinted.get(queue, (0, 0.0))
        found = QueueGauges(jobs + out, out, max(oldest, oldest_out), active.get(queue, ()))
        name = queue if queue in named else ""
        gauges[name] = _add(gauges.get(name, QueueGauges()), found)
    return gauges


def _add(one: QueueGauges, other: QueueGauges) -> QueueGauges:
    states = {state for state, _ in (*one.active, *other.active)}
    counts = (dict(one.active), dict(other.active))
    return QueueGauges(
        one.queued + other.queued,
        one.hinted + other.hinted,
        max(one.oldest_seconds, other.oldest_seconds),
        tuple((state, sum(count.get(state, 0) for count in counts)) for state in sorted(states)),
    )


def _waiting(tx: Connection, queues: Collection[str]) -> dict[str, tuple[int, float]]:
    values = {"queues": sorted(queues), "most": MOST_COUNTED, "owners": _MOST_OWNERS}
    return {row.queue: (row.jobs, max(0.0, float(row.seconds or 0))) for row in tx.execute(_WAITING, values)}


def _hinted(tx: Connection) -> dict[str, tuple[int, float]]:
    """Count the jobs whose hint is out, about one a slot, and how long the oldest of them has waited."""
    oldest = func.max(func.extract("epoch", func.now() - job.c.run_after))
    statement = (
        select(job.c.queue, func.count().label("jobs"), oldest.label("seconds"))
        .where(job.c.state == "queued", job.c.hints > 0)
        .group_by(job.c.queue)
    )
    return {row.queue: (row.jobs, max(0.0, float(row.seconds))) for row in tx.execute(statement)}


def _active(tx: Connection) -> dict[str, tuple[tuple[str, int], ...]]:
    """Count the jobs that workers hold, as many as there are slots."""
    statement = (
        select(job.c.queue, job.c.state, func.count().label("jobs"))
        .where(job.c.lease_expires_at.is_not(None))
        .group_by(job.c.queue, job.c.state)
    )
    found: dict[str, list[tuple[str, int]]] = {}
    for row in tx.execute(statement):
        found.setdefault(row.queue, []).append((row.state, row.jobs))
    return {queue: tuple(states) for queue, states in found.items()}
