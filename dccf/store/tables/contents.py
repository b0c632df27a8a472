"""What was uploaded, and the contents of all files."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    Uuid,
)
from sqlalchemy.dialects.postgresql import JSONB

from dccf.store.tables.schema import metadata, time_column

blob = Table(
    "blob",
    metadata,
    # A surrogate key: content can be streamed in before its hash is known, and nothing is rewritten after.
    Column("id", Uuid, primary_key=True),
    Column("sha256", LargeBinary, unique=True),  # NULL while the content is still coming in
    Column("size", BigInteger, nullable=False, server_default="0"),
    Column("stored_size", BigInteger, nullable=False, server_default="0"),
    Column("codec", SmallInteger, nullable=False, server_default="0"),  # 0 raw, 1 zstd per chunk
    Column("chunk_size", Integer, nullable=False),
    time_column("touched_at", default_now=True),
    CheckConstraint("sha256 IS NULL OR octet_length(sha256) = 32", name="sha256_length"),
)

blob_chunk = Table(
    "blob_chunk",
    metadata,
    Column("blob_id", Uuid, ForeignKey("blob.id", ondelete="CASCADE"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    # STORAGE EXTERNAL (set by the migration): PostgreSQL's own compression only costs time on zstd data.
    Column("data", LargeBinary, nullable=False),
)

bundle = Table(
    "bundle",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("spec", JSONB, nullable=False),  # the options that a signature was made with
    Column("size", BigInteger, nullable=False),
    Column("file_count", Integer, nullable=False),
    time_column("created_at", default_now=True),
)

Index("bundle_created_at_idx", bundle.c.created_at, bundle.c.id)

bundle_file = Table(
    "bundle_file",
    metadata,
    Column("bundle_id", Uuid, ForeignKey("bundle.id", ondelete="CASCADE"), primary_key=True),
    Column("path", Text, primary_key=True),
    Column("mode", Integer, nullable=False),
    Column("blob_id", Uuid, ForeignKey("blob.id", ondelete="RESTRICT"), nullable=False, index=True),
)
