"""Queries on logs: pieces of the four streams of every attempt, as bytes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from uuid import UUID

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects.postgresql import insert

from dccf.models import LogChunk, Stream
from dccf.store.tables import log_chunk


def add(tx: Connection, job_id: UUID, chunks: Sequence[LogChunk]) -> None:
    """Append pieces to the log of an attempt, again is no harm; the caller holds its fence."""
    rows = [{"job_id": job_id, **chunk.model_dump()} for chunk in chunks]
    tx.execute(insert(log_chunk).on_conflict_do_nothing(), rows)


def get(
    tx: Connection,
    job_id: UUID,
    fence: int,
    streams: Collection[Stream] = (),
    after_seq: int = -1,
    limit: int = 64,
) -> tuple[LogChunk, ...]:
    """List pieces of an attempt's log in order, at most ``limit`` (64 KiB each or less)."""
    columns = [log_chunk.c[name] for name in LogChunk.model_fields]
    statement = (
        select(*columns)
        .where(log_chunk.c.job_id == job_id, log_chunk.c.fence == fence, log_chunk.c.seq > after_seq)
        .order_by(log_chunk.c.seq)
        .limit(limit)
    )
    if streams:
        statement = statement.where(log_chunk.c.stream.in_(streams))
    return tuple(LogChunk.model_validate(dict(row._mapping)) for row in tx.execute(statement))


def get_end(tx: Connection, job_id: UUID, fence: int) -> int:
    """Get the number after that of the last piece of an attempt's log."""
    statement = select(func.max(log_chunk.c.seq)).where(log_chunk.c.job_id == job_id, log_chunk.c.fence == fence)
    last = tx.execute(statement).scalar()
    return 0 if last is None else int(last) + 1


def get_size(tx: Connection, job_id: UUID, fence: int) -> int:
    """Count the bytes that are stored of an attempt's log."""
    size = func.coalesce(func.sum(func.length(log_chunk.c.data)), 0)
    statement = select(size).where(log_chunk.c.job_id == job_id, log_chunk.c.fence == fence)
    return int(tx.execute(statement).scalar_one())


def get_whole(tx: Connection, job_id: UUID, fence: int, stream: Stream) -> tuple[bytes, int]:
    """Get all that is stored of one stream of an attempt, and how many bytes were left out in it."""
    statement = (
        select(log_chunk.c.data, log_chunk.c.omitted_bytes)
        .where(log_chunk.c.job_id == job_id, log_chunk.c.fence == fence, log_chunk.c.stream == stream)
        .order_by(log_chunk.c.seq)
    )
    rows = tx.execute(statement).all()
    return b"".join(bytes(row.data) for row in rows), sum(row.omitted_bytes for row in rows)


def get_tail(tx: Connection, job_id: UUID, fence: int, streams: Collection[Stream], max_bytes: int) -> bytes:
    """Get the last bytes of some streams of an attempt, in the order in which they were printed."""
    taken = func.sum(func.length(log_chunk.c.data)).over(order_by=log_chunk.c.seq.desc())
    before = (
        select(log_chunk.c.seq, log_chunk.c.data, (taken - func.length(log_chunk.c.data)).label("later_bytes"))
        .where(log_chunk.c.job_id == job_id, log_chunk.c.fence == fence, log_chunk.c.stream.in_(streams))
        .subquery()
    )
    rows = tx.execute(select(before.c.data).where(before.c.later_bytes < max_bytes).order_by(before.c.seq))
    return b"".join(bytes(row.data) for row in rows)[-max_bytes:]
