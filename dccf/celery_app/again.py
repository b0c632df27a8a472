"""Jobs made from what is stored already: a rerun, or one of a schedule."""

from __future__ import annotations

import hashlib
from uuid import UUID

from dccf.celery_app import messages
from dccf.celery_app.app import DccfCelery
from dccf.lifecycle.ids import new_job_id
from dccf.models import JobSpec
from dccf.store.jobs import NewJob


def make(
    app: DccfCelery, owner: str, spec: JobSpec, bundle_id: UUID, inputs: tuple[UUID, ...], key: str | None, what: str
) -> NewJob:
    """Make a new job of a stored bundle, to start now; ``what`` tells one request of a key from another."""
    job_id = new_job_id()
    spec = spec.model_copy(update={"run_after": None})
    return NewJob(
        id=job_id,
        owner=owner,
        spec=spec,
        bundle_id=bundle_id,
        inputs=inputs,
        celery_message=messages.for_job(app, job_id, owner, spec),
        has_continuation=False,
        max_attempts=app.settings.max_attempts,
        idempotency_key=key,
        request_hash=hashlib.sha256(what.encode()).digest(),
    )
