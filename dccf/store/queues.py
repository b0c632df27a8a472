"""Queries on queues: which are paused, and what is in them."""

from __future__ import annotations

from sqlalchemy import Connection, delete, func, select
from sqlalchemy.dialects.postgresql import insert

from dccf.administration import QueueInfo
from dccf.models import JobState
from dccf.store import fleet
from dccf.store.tables import job, queue_pause


def pause(tx: Connection, queue: str, who: str) -> None:
    """Note that no job of a queue may start; again is no harm."""
    tx.execute(insert(queue_pause).values(queue=queue, paused_by=who).on_conflict_do_nothing())


def resume(tx: Connection, queue: str) -> None:
    """Note that the jobs of a queue may start again."""
    tx.execute(delete(queue_pause).where(queue_pause.c.queue == queue))


def get_paused(tx: Connection) -> dict[str, str]:
    """List the queues that are paused, and who paused them."""
    return {row.queue: row.paused_by for row in tx.execute(select(queue_pause.c.queue, queue_pause.c.paused_by))}


def describe(tx: Connection) -> tuple[QueueInfo, ...]:
    """List the queues that have jobs, workers, or a pause."""
    counted = select(job.c.queue, func.count()).group_by(job.c.queue)
    queued: dict[str, int] = dict(tx.execute(counted.where(job.c.state == JobState.QUEUED)).all())
    running: dict[str, int] = dict(tx.execute(counted.where(job.c.lease_expires_at.is_not(None))).all())
    slots, paused = fleet.count_slots(tx), get_paused(tx)
    return tuple(
        QueueInfo(
            name=name,
            queued=queued.get(name, 0),
            running=running.get(name, 0),
            slots=slots.get(name, 0),
            paused_by=paused.get(name),
        )
        for name in sorted({*queued, *running, *slots, *paused})
    )
