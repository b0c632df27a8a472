"""Why jobs wait, in words: said in a job's message and history, once for each reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection

from dccf.config import Settings
from dccf.lifecycle import channels, owners
from dccf.models import JobSpec, WaitingFor
from dccf.store import backlog, fleet, jobs, limits, queues, waiting
from dccf.store.backlog import InFlight, Lane
from dccf.store.database import Database
from dccf.store.fleet import WorkerInfo
from dccf.store.waiting import Why

#: Jobs that one sweep tells anew, so that one transaction stays short.
BATCH = 100


def at_first(spec: JobSpec) -> str:
    """Say what a job waits for that was just submitted."""
    if spec.run_after is not None:
        return f"starts at {spec.run_after:%Y-%m-%d %H:%M:%S} UTC at the earliest"
    return f"waits for a worker of queue {spec.queue}"


def paused(queue: str, who: str) -> Why:
    """Say that the job's queue is paused."""
    return Why(WaitingFor.RESUME, f"queue {queue} is paused by {who}")


def limited(limit: int) -> Why:
    """Say that the job's owner has as many running as they may."""
    jobs_of = f"{limit} running job{'' if limit == 1 else 's'}"
    return Why(WaitingFor.OWNER_LIMIT, f"owner limit of {jobs_of} reached; it starts when another has ended")


def why_not_now(tx: Connection, settings: Settings, queue: str, owner: str) -> Why | None:
    """Say why a job may not be claimed now, or ``None``; keeps others from counting meanwhile."""
    who = queues.get_paused(tx).get(queue)
    if who is not None:
        return paused(queue, who)
    limit = owners.get_limits(tx, settings, owner).running
    if limit is None:
        return None
    limits.lock(tx, owner)
    return limited(limit) if limits.count_running(tx, owner) >= limit else None


def explain(database: Database, settings: Settings) -> int:
    """Say of jobs that may start what they wait for, where that has changed; give the number of jobs told.

    Raises:
        StoreUnavailable: PostgreSQL is away.
    """
    with database.begin() as tx:
        return waiting.note(tx, waiting.find_changed(tx, _reasons(tx, settings), BATCH), channels.JOB_CHANGED)


def _reasons(tx: Connection, settings: Settings) -> dict[Lane, Why]:
    lanes = waiting.find_lanes(tx)
    in_flight = backlog.count_in_flight(tx)
    stopped = queues.get_paused(tx)
    alive = [worker for worker in fleet.get_workers(tx) if worker.is_alive]
    own = limits.get_many(tx, {owner for _, owner in lanes})
    defaults = owners.defaults(settings)
    reasons = {}
    for queue, owner in lanes:
        limit = limits.over_defaults(own[owner], defaults).running if owner in own else defaults.running
        reasons[queue, owner] = _reason(queue, stopped, alive) or _limit(limit, in_flight, owner, queue)
    return reasons


def _reason(queue: str, stopped: Mapping[str, str], alive: Sequence[WorkerInfo]) -> Why | None:
    if queue in stopped:
        return paused(queue, stopped[queue])
    listening = [worker for worker in alive if queue in worker.queues]
    if not listening:
        return Why(WaitingFor.WORKER, f"no worker listens on queue {queue}")
    if all(worker.message for worker in listening):
        worker = listening[0]
        return Why(WaitingFor.ABLE_WORKER, f"worker {worker.name} of queue {queue} takes no jobs: {worker.message}")
    return None


def _limit(limit: int | None, in_flight: InFlight, owner: str, queue: str) -> Why:
    if limit is not None and in_flight.of_owner(owner) >= limit:
        return limited(limit)
    return Why(WaitingFor.NOTHING_SPECIAL, f"waits for a worker of queue {queue}")


def pause_queue(database: Database, queue: str, who: str) -> None:
    """Let no job of a queue start; those that run go on.

    Raises:
        StoreUnavailable: PostgreSQL is away.
    """
    with database.begin() as tx:
        queues.pause(tx, queue, who)


def resume_queue(database: Database, queue: str) -> None:
    """Let the jobs of a queue start again.

    Raises:
        StoreUnavailable: PostgreSQL is away.
    """
    with database.begin() as tx:
        queues.resume(tx, queue)
        jobs.notify(tx, channels.WORK_TO_DO, "")
