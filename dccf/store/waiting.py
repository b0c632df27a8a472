"""Queries on what queued jobs were last said to wait for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, func, insert, select, text, update

from dccf.models import JobState, WaitingFor
from dccf.store.backlog import Lane
from dccf.store.database import prefer_index_order
from dccf.store.tables import job, job_event

# Jumps from one owner and queue to the next in the index: its cost is the number of lanes, not of jobs.
_LANES = text("""
    WITH RECURSIVE lane AS (
        (SELECT owner, queue FROM job WHERE state = 'queued' ORDER BY owner, queue LIMIT 1)
        UNION ALL
        SELECT next.owner, next.queue FROM lane, LATERAL (
            SELECT owner, queue FROM job WHERE state = 'queued' AND (owner, queue) > (lane.owner, lane.queue)
            ORDER BY owner, queue LIMIT 1
        ) next
    )
    SELECT owner, queue FROM lane
""")

# Every pair of an owner's queue and something else that its jobs were last said to wait for is a range of the index.
_CHANGED = text("""
    SELECT found.id, lane.queue, lane.owner
    FROM unnest(:queues, :owners, CAST(:codes AS smallint[])) lane (queue, owner, code)
    CROSS JOIN unnest(CAST(:all_codes AS smallint[])) other (code)
    CROSS JOIN LATERAL (
        SELECT id FROM job
        WHERE state = 'queued' AND job.owner = lane.owner AND job.queue = lane.queue
            AND waiting_for = other.code AND run_after <= now() AND (hints = 0 OR lane.code <> :owner_limit)
        ORDER BY run_after LIMIT :limit
    ) found
    WHERE lane.code <> other.code
    LIMIT :limit
""")


@dataclass(frozen=True)
class Why:
    """What jobs wait for, as a code and in words."""

    code: WaitingFor
    message: str


def find_lanes(tx: Connection) -> tuple[Lane, ...]:
    """List the queues and owners with jobs that wait."""
    return tuple((row.queue, row.owner) for row in tx.execute(_LANES))


def find_changed(tx: Connection, lanes: Mapping[Lane, Why], limit: int) -> dict[Lane, list[UUID]]:
    """List jobs that may start and were last said to wait for something else than is true now."""
    prefer_index_order(tx)
    found: dict[Lane, list[UUID]] = {}
    values = {
        "queues": [queue for queue, _ in lanes],
        "owners": [owner for _, owner in lanes],
        "codes": [why.code.value for why in lanes.values()],
        "all_codes": [code.value for code in WaitingFor],
        "owner_limit": WaitingFor.OWNER_LIMIT.value,
        "limit": limit,
    }
    for row in tx.execute(_CHANGED, values) if lanes else ():
        found.setdefault((row.queue, row.owner), []).append(row.id)
    return found


def note(tx: Connection, job_ids: list[UUID], why: Why) -> list[UUID]:
    """Say what jobs wait for, those that still wait; in their histories too, unless it is nothing in particular."""
    locked = (
        select(job.c.id)
        .where(job.c.id.in_(job_ids), job.c.state == JobState.QUEUED, job.c.waiting_for != why.code.value)
        .with_for_update(skip_locked=True)
    )
    noted = tx.execute(
        update(job)
        .where(job.c.id.in_(locked.scalar_subquery()))
        .values(waiting_for=why.code.value, message=why.message)
        .returning(job.c.id, job.c.fence)
    ).all()
    if noted and why.code is not WaitingFor.NOTHING_SPECIAL:
        events = [
            {"job_id": row.id, "state": JobState.QUEUED, "fence": row.fence, "message": why.message} for row in noted
        ]
        tx.execute(insert(job_event), events)
    return [row.id for row in noted]


def notify_all(tx: Connection, channel: str, job_ids: list[UUID]) -> None:
    """Send a NOTIFY for each of the jobs when the transaction commits."""
    names = func.unnest([str(job_id) for job_id in job_ids]).table_valued("name")
    tx.execute(select(func.pg_notify(channel, names.c.name)))
