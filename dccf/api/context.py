"""What every request works with: settings, database, Celery, changes; and who is asking."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import UUID

from flask import current_app, g

from dccf import errors
from dccf.api.changes import Changes
from dccf.api.errors import TooBusy
from dccf.celery_app import DccfCelery
from dccf.config import Settings
from dccf.lifecycle.ids import parse_job_id
from dccf.models import Identity, Job
from dccf.store import jobs
from dccf.store.database import Database

EXTENSION = "dccf"
#: Shorter beginnings of an id are not looked up.
LEAST_PREFIX = 6
_ID_DIGITS = 32


@dataclass(frozen=True)
class Services:
    """What one application holds for all its requests."""

    settings: Settings
    database: Database
    celery: DccfCelery
    changes: Changes
    #: Places for requests that wait; others must still find a free thread.
    waiting: threading.BoundedSemaphore = field(repr=False)

    @contextmanager
    def wait_place(self) -> Iterator[None]:
        """Hold one of the places for requests that wait.

        Raises:
            TooBusy: all are taken.
        """
        self.take_wait_place()
        try:
            yield
        finally:
            self.waiting.release()

    def take_wait_place(self) -> None:
        """Take a place for a request that waits; the caller releases ``waiting``.

        Raises:
            TooBusy: all are taken.
        """
        if not self.waiting.acquire(blocking=False):
            raise TooBusy("too many requests are waiting for jobs at this server; try again shortly")


def waiting_places(threads: int) -> int:
    """Say how many of a server's threads may wait, so that some are always left for short requests."""
    return threads - max(2, threads // 8)


def services() -> Services:
    """Give the services of the application that handles this request."""
    found: Services = current_app.extensions[EXTENSION]
    return found


def identity() -> Identity:
    """Say who is asking."""
    found: Identity = g.identity
    return found


def visible_owner() -> str | None:
    """Give the owner whose jobs the asker may see; ``None`` means everybody's."""
    return None if identity().is_admin else identity().owner


def require_admin() -> None:
    """Make sure that an administrator is asking.

    Raises:
        NotAllowed: it is somebody else.
    """
    if not identity().is_admin:
        raise errors.NotAllowed("this needs an administrator's token")


def find_job(text: str) -> Job:
    """Get a job by its id or an unambiguous beginning of it.

    Raises:
        InvalidRequest: the text is no id, or the beginning of several.
        NotFound: there is no such job, or it is another owner's.
        StoreUnavailable: PostgreSQL is away.
    """
    owner = visible_owner()
    digits = text.replace("-", "").lower()
    is_prefix = LEAST_PREFIX <= len(digits) < _ID_DIGITS and set(digits) <= set("0123456789abcdef")
    job_id = _find_by_prefix(text, digits, owner) if is_prefix else parse_job_id(text)
    with services().database.begin() as tx:
        job = jobs.get(tx, job_id)
    if job is None or owner not in {None, job.owner}:
        raise errors.NotFound(f"there is no job {text}")
    return job


def _find_by_prefix(text: str, digits: str, owner: str | None) -> UUID:
    with services().database.begin() as tx:
        found = jobs.find_by_prefix(tx, digits, owner)
    if not found:
        raise errors.NotFound(f"there is no job {text}")
    if len(found) > 1:
        raise errors.InvalidRequest(f"several jobs begin with {text}; write more of the id")
    return found[0]
