"""The declared schema; migrations create the same one, which a test proves."""

from __future__ import annotations

from dccf.store.tables.administration import (
    api_token,
    controller,
    owner_limit,
    queue_pause,
    schedule,
    schedule_run,
    worker,
)
from dccf.store.tables.contents import blob, blob_chunk, bundle, bundle_file
from dccf.store.tables.jobs import artifact, attempt, chord, chord_part, job, job_event, log_chunk, removed_job
from dccf.store.tables.schema import metadata

__all__ = [
    "api_token",
    "artifact",
    "attempt",
    "blob",
    "blob_chunk",
    "bundle",
    "bundle_file",
    "chord",
    "chord_part",
    "controller",
    "job",
    "job_event",
    "log_chunk",
    "metadata",
    "owner_limit",
    "queue_pause",
    "removed_job",
    "schedule",
    "schedule_run",
    "worker",
]
