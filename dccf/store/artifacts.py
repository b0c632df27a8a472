"""Queries on artefacts: the files that a job's accepted attempt left in /output."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Connection, Select, delete, select
from sqlalchemy.dialects.postgresql import insert

from dccf.models import Artifact
from dccf.store.bundles import FileRef, NewFile
from dccf.store.tables import artifact, blob, job


def add(tx: Connection, job_id: UUID, fence: int, files: Sequence[NewFile]) -> None:
    """Record files of an attempt, again is no harm; the caller holds its fence."""
    if files:
        tx.execute(
            insert(artifact).on_conflict_do_nothing(),
            [
                {"job_id": job_id, "fence": fence, "path": file.path, "mode": file.mode, "blob_id": file.blob.id}
                for file in files
            ],
        )


def remove(tx: Connection, job_id: UUID, fence: int) -> None:
    """Forget the files of an attempt; their contents go with the next blob sweep, unless others have them too."""
    tx.execute(delete(artifact).where(artifact.c.job_id == job_id, artifact.c.fence == fence))


def _of_current_attempt(job_id: UUID) -> Select[tuple[str, int, int, bytes, UUID]]:
    return (
        select(artifact.c.path, artifact.c.mode, blob.c.size, blob.c.sha256, artifact.c.blob_id)
        .join(job, (job.c.id == artifact.c.job_id) & (job.c.fence == artifact.c.fence))
        .join(blob, blob.c.id == artifact.c.blob_id)
        .where(artifact.c.job_id == job_id)
        .order_by(artifact.c.path)
    )


def describe(tx: Connection, job_id: UUID) -> tuple[Artifact, ...]:
    """List a job's artefacts as everybody sees them, in the order of their paths."""
    rows = tx.execute(_of_current_attempt(job_id))
    return tuple(Artifact(path=row.path, mode=row.mode, size=row.size, sha256=row.sha256.hex()) for row in rows)


def get_files(tx: Connection, job_id: UUID) -> tuple[FileRef, ...]:
    """List a job's artefacts with the places of their contents."""
    return tuple(
        FileRef(row.path, row.mode, row.size, row.blob_id, row.sha256)
        for row in tx.execute(_of_current_attempt(job_id))
    )


def get_file(tx: Connection, job_id: UUID, path: str) -> tuple[Artifact, UUID] | None:
    """Get one artefact and the place of its content."""
    row = tx.execute(_of_current_attempt(job_id).where(artifact.c.path == path)).first()
    if row is None:
        return None
    return Artifact(path=row.path, mode=row.mode, size=row.size, sha256=row.sha256.hex()), row.blob_id
