"""Queries on bundles: the Dockerfile and files that were uploaded for a job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, insert, select

from dccf.models import BundleFile
from dccf.store.blobs import StoredBlob
from dccf.store.tables import blob, bundle, bundle_file


@dataclass(frozen=True)
class NewFile:
    """A stored content and the name it has in a bundle."""

    path: str
    mode: int
    blob: StoredBlob


@dataclass(frozen=True)
class FileRef:
    """A file of a bundle or of a job's output, and where its content lies."""

    path: str
    mode: int
    size: int
    blob_id: UUID
    sha256: bytes


def add(tx: Connection, owner: str, files: Sequence[NewFile], spec: dict[str, Any] | None = None) -> UUID:
    """Make a bundle from stored contents; give its id."""
    bundle_id = uuid4()
    tx.execute(
        insert(bundle).values(
            id=bundle_id,
            owner=owner,
            spec=spec or {},
            size=sum(file.blob.size for file in files),
            file_count=len(files),
        )
    )
    tx.execute(
        insert(bundle_file),
        [{"bundle_id": bundle_id, "path": file.path, "mode": file.mode, "blob_id": file.blob.id} for file in files],
    )
    return bundle_id


def get_spec(tx: Connection, bundle_id: UUID) -> tuple[str, dict[str, Any]] | None:
    """Get the owner of a bundle and the options it was stored with."""
    row = tx.execute(select(bundle.c.owner, bundle.c.spec).where(bundle.c.id == bundle_id)).first()
    return None if row is None else (row.owner, row.spec)


def get_files(tx: Connection, bundle_id: UUID) -> tuple[FileRef, ...]:
    """List a bundle's files in the order of their paths."""
    statement = (
        select(bundle_file.c.path, bundle_file.c.mode, blob.c.size, bundle_file.c.blob_id, blob.c.sha256)
        .join(blob, blob.c.id == bundle_file.c.blob_id)
        .where(bundle_file.c.bundle_id == bundle_id)
        .order_by(bundle_file.c.path)
    )
    return tuple(FileRef(*row) for row in tx.execute(statement))


def describe_files(tx: Connection, bundle_id: UUID) -> tuple[BundleFile, ...]:
    """List a bundle's files as everybody sees them."""
    statement = (
        select(bundle_file.c.path, bundle_file.c.mode, blob.c.size, blob.c.sha256)
        .join(blob, blob.c.id == bundle_file.c.blob_id)
        .where(bundle_file.c.bundle_id == bundle_id)
        .order_by(bundle_file.c.path)
    )
    return tuple(
        BundleFile(path=row.path, mode=row.mode, size=row.size, sha256=row.sha256.hex())
        for row in tx.execute(statement)
    )
