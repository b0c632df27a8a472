"""Queries on what queued jobs were last said to wait for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, text

from dccf.models import WaitingFor
from dccf.store.backlog import Lane
from dccf.store.database import prefer_index_order

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


# All in one statement: a hundred owners whose worker came back would else be some hundreds of them.
_NOTE = text("""
    WITH locked AS MATERIALIZED (
        SELECT job.id, told.code, told.message
        FROM unnest(CAST(:ids AS uuid[]), CAST(:codes AS smallint[]), CAST(:messages AS text[]))
            told (id, code, message) JOIN job ON job.id = told.id
        WHERE job.state = 'queued' AND job.waiting_for <> told.code
        FOR UPDATE OF job SKIP LOCKED
    ), noted AS (
        UPDATE job SET waiting_for = locked.code, message = locked.message FROM locked WHERE job.id = locked.id
        RETURNING job.id, job.fence, job.waiting_for, job.message
    ), events AS (
        INSERT INTO job_event (job_id, state, fence, message)
        SELECT id, 'queued', fence, message FROM noted WHERE waiting_for <> :nothing_special
    )
    SELECT pg_notify(:channel, CAST(id AS text)) FROM noted
""")


@dataclass(frozen=True)
class Why:
    """What jobs wait for, as a code and in words."""

    code: WaitingFor
    message: str


def find_lanes(tx: Connection) -> tuple[Lane, ...]:
    """List the queues and owners with jobs that wait."""
    return tuple((row.queue, row.owner) for row in tx.execute(_LANES))


def find_changed(tx: Connection, lanes: Mapping[Lane, Why], limit: int) -> dict[UUID, Why]:
    """Find jobs that may start and were last said to wait for something else than is true now."""
    if not lanes:
        return {}
    prefer_index_order(tx)
    values = {
        "queues": [queue for queue, _ in lanes],
        "owners": [owner for _, owner in lanes],
        "codes": [why.code.value for why in lanes.values()],
        "all_codes": [code.value for code in WaitingFor],
        "owner_limit": WaitingFor.OWNER_LIMIT.value,
        "limit": limit,
    }
    return {row.id: lanes[row.queue, row.owner] for row in tx.execute(_CHANGED, values)}


def note(tx: Connection, whys: Mapping[UUID, Why], channel: str) -> int:
    """Say what jobs wait for, those that still wait, and NOTIFY of each; give their number.

    In their histories it is said too, unless it is nothing in particular.
    """
    values = {
        "ids": [str(job_id) for job_id in whys],
        "codes": [why.code.value for why in whys.values()],
        "messages": [why.message for why in whys.values()],
        "nothing_special": WaitingFor.NOTHING_SPECIAL.value,
        "channel": channel,
    }
    return len(tx.execute(_NOTE, values).all()) if whys else 0
