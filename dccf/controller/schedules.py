"""Makes the jobs of schedules whose time has come: once each, however many controllers there are."""

from __future__ import annotations

import logging
from uuid import UUID

from sqlalchemy import Connection

from dccf import errors
from dccf.administration import Missed, Schedule
from dccf.celery_app import DccfCelery, again
from dccf.config import Settings
from dccf.lifecycle import scheduling
from dccf.lifecycle.submit import submit
from dccf.models import JobState
from dccf.store import history, jobs, schedules
from dccf.store.database import Database

log = logging.getLogger(__name__)

#: Schedules that one transaction fires.
BATCH = 20
#: A time that passed longer ago than this was missed.
LATE_SECONDS = 60.0


def fire(celery: DccfCelery, database: Database, settings: Settings) -> int:
    """Make the jobs of schedules that are due, each in the transaction that moves it on; give their number.

    Raises:
        StoreUnavailable: PostgreSQL is away; what was missed is made up for as each schedule says.
    """
    made = 0
    with database.begin() as tx:
        for due in schedules.lock_due(tx, BATCH):
            made += _fire(tx, celery, settings, due)
    return made


def _fire(tx: Connection, celery: DccfCelery, settings: Settings, due: Schedule) -> bool:
    late_seconds = (jobs.get_now(tx) - due.next_at).total_seconds()
    if late_seconds > LATE_SECONDS and due.missed is Missed.SKIP:
        scheduling.note_fired(tx, due, None, f"the run of {due.next_at:%Y-%m-%d %H:%M} UTC was missed and skipped")
        return False
    job_id: UUID | None = None
    try:
        with tx.begin_nested():
            job_id = _submit(tx, celery, settings, due)
        message = ""
    except errors.LimitReached as error:
        job_id, message = None, f"the run of {due.next_at:%Y-%m-%d %H:%M} UTC was left out: {error}"
        log.warning("schedule %s of %s: %s", due.name, due.owner, message)
    scheduling.note_fired(tx, due, job_id, message)
    return job_id is not None


def _submit(tx: Connection, celery: DccfCelery, settings: Settings, due: Schedule) -> UUID:
    what = f"schedule:{due.name}:{due.created_at.isoformat()}:{due.next_at.isoformat()}"
    submitted = submit(tx, settings, again.make(celery, due.owner, due.spec, due.bundle_id, (), what, what))
    if submitted.is_new:
        history.add_event(tx, submitted.job.id, JobState.QUEUED, 0, f"made by schedule {due.name}")
    return submitted.job.id
