"""Submitting over HTTP: what came in becomes a bundle and a job in one transaction, then a first hint."""

from __future__ import annotations

import json
from typing import Any

from dccf import errors
from dccf.api.context import Services
from dccf.celery_app import again, dispatch, messages
from dccf.errors import FieldError
from dccf.lifecycle import scheduling
from dccf.lifecycle.ids import new_job_id
from dccf.lifecycle.intake import Intake
from dccf.lifecycle.submit import Submitted, submit
from dccf.models import Identity, Job, JobSpec, JobState
from dccf.store import history
from dccf.store.jobs import NewJob

MAX_KEY_LENGTH = 255


def read_options(text: str) -> dict[str, Any]:
    """Read the text of the field ``spec``.

    Raises:
        InvalidRequest: it is no JSON object.
    """
    try:
        values = json.loads(text)
    except ValueError as error:
        raise _not_an_object(f"it is no JSON: {error}") from error
    except RecursionError as error:
        raise _not_an_object("it is nested too deeply") from error
    if not isinstance(values, dict):
        raise _not_an_object("it is JSON, but no object")
    return values


def _not_an_object(why: str) -> errors.InvalidRequest:
    detail = f'the field spec holds the job\'s options as a JSON object like {{"timeout_seconds": 60}}; {why}'
    return errors.InvalidRequest(detail, (FieldError("#", detail),))


def read_key(header: str | None) -> str | None:
    """Read an Idempotency-Key header, with or without the quotes that its draft wants.

    Raises:
        InvalidRequest: it is empty or too long.
    """
    if header is None:
        return None
    key = header.strip().strip('"')
    if not 0 < len(key) <= MAX_KEY_LENGTH:
        raise errors.InvalidRequest(f"an Idempotency-Key has 1 to {MAX_KEY_LENGTH} characters")
    return key


def submit_job(services: Services, asker: Identity, intake: Intake, spec: JobSpec, key: str | None) -> Submitted:
    """Make a job of files that were taken in, and send its first hint.

    Raises:
        IdempotencyMismatch: the key was used with another request.
        LimitReached: the owner has as many jobs waiting as they may.
        StoreUnavailable: PostgreSQL is away; nothing was submitted, or the same key will tell.
    """
    job_id = new_job_id()
    with services.database.begin() as tx:
        submitted = submit(
            tx,
            services.settings,
            NewJob(
                id=job_id,
                owner=asker.owner,
                spec=spec,
                bundle_id=intake.make_bundle(tx, asker.owner),
                inputs=(),
                celery_message=messages.for_job(services.celery, job_id, asker.owner, spec),
                has_continuation=False,
                max_attempts=services.settings.max_attempts,
                idempotency_key=key,
                request_hash=intake.request_hash(spec),
            ),
        )
    if submitted.is_new:
        dispatch.first(services.celery, job_id)
    return submitted


def rerun_job(services: Services, earlier: Job, key: str | None) -> Submitted:
    """Make a new job from the files and options of an earlier one, for the same owner, to start now.

    Raises:
        IdempotencyMismatch: the key was used with another request.
        LimitReached: the owner has as many jobs waiting as they may.
        StoreUnavailable: PostgreSQL is away; nothing was submitted, or the same key will tell.
    """
    new = again.make(
        services.celery, earlier.owner, earlier.spec, earlier.bundle_id, earlier.inputs, key, f"rerun:{earlier.id}"
    )
    with services.database.begin() as tx:
        submitted = submit(tx, services.settings, new)
        if submitted.is_new:
            history.add_event(tx, new.id, JobState.QUEUED, 0, f"made again from job {earlier.id}")
    if submitted.is_new:
        dispatch.first(services.celery, new.id)
    return submitted


def run_schedule(services: Services, owner: str, name: str, asker: Identity, key: str | None) -> Submitted:
    """Make a schedule's job now, for the schedule's owner.

    Raises:
        NotFound: there is no such schedule.
        IdempotencyMismatch: the key was used with another request.
        LimitReached: the owner has as many jobs waiting as they may.
        StoreUnavailable: PostgreSQL is away; nothing was submitted, or the same key will tell.
    """
    with services.database.begin() as tx:
        found = scheduling.lock(tx, owner, name)
        what = f"schedule:{name}:{found.created_at.isoformat()}:now"
        new = again.make(services.celery, owner, found.spec, found.bundle_id, (), key, what)
        submitted = submit(tx, services.settings, new)
        if submitted.is_new:
            history.add_event(tx, new.id, JobState.QUEUED, 0, f"made by schedule {name} when {asker.owner} asked")
            scheduling.note_asked(tx, found, new.id)
    if submitted.is_new:
        dispatch.first(services.celery, new.id)
    return submitted
