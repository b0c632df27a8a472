"""Which hints to send: bounded per queue, fair between owners, again when a job waits too long."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from dccf.config import Settings
from dccf.lifecycle import channels
from dccf.models import JobState
from dccf.store import fleet, history, jobs, outbox
from dccf.store.database import Database
from dccf.store.outbox import Hint

#: Hints that one call takes, so that one transaction stays short.
BATCH = 200
#: A hint that could not be sent is tried again after this long.
RETRY_SECONDS = 5


def take_first(database: Database, settings: Settings, job_id: UUID) -> list[Hint]:
    """Take the first hint of a job just submitted, if its queue has room; the controller sends the others.

    Raises:
        StoreUnavailable: PostgreSQL is away.
    """
    with database.begin() as tx:
        return outbox.take_first(tx, job_id, settings.hint_resend_seconds, settings.hints_outstanding)


def take_due(database: Database, settings: Settings) -> list[Hint]:
    """Take hints that are due and that their queues have room for.

    Raises:
        StoreUnavailable: PostgreSQL is away.
    """
    with database.begin() as tx:
        slots = fleet.count_slots(tx)
        room = {
            queue: max(settings.hints_outstanding, 2 * slots.get(queue, 0)) - sent
            for queue, sent in outbox.count_outstanding(tx).items()
        }
        return outbox.take_due(tx, settings.hint_resend_seconds, room, BATCH)


def put_back(database: Database, hints: Sequence[Hint]) -> None:
    """Note that hints could not be sent.

    Raises:
        StoreUnavailable: PostgreSQL is away.
    """
    with database.begin() as tx:
        outbox.put_back(tx, [hint.job_id for hint in hints], RETRY_SECONDS)


def decline(database: Database, job_id: UUID, why: str) -> None:
    """Note that a worker got a job's hint but cannot take the job now; another hint goes out soon.

    Raises:
        StoreUnavailable: PostgreSQL is away.
    """
    with database.begin() as tx:
        job = jobs.lock(tx, job_id)
        if job is None or job.state is not JobState.QUEUED:
            return
        outbox.put_back(tx, [job_id], RETRY_SECONDS)
        if job.message != why:
            jobs.set_message(tx, job_id, why)
            history.add_event(tx, job_id, job.state, job.fence, why)
            jobs.notify(tx, channels.JOB_CHANGED, str(job_id))


def finish_continuation(database: Database, job_id: UUID, state: JobState) -> None:
    """Note that everything that follows a finished job has been sent.

    Raises:
        StoreUnavailable: PostgreSQL is away; the continuation is then sent once more.
    """
    with database.begin() as tx:
        outbox.finish_continuation(tx, job_id, state)
