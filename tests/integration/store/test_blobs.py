"""Contents in PostgreSQL: what goes in comes out, once."""

from __future__ import annotations

import hashlib
import os
import threading

import pytest
from sqlalchemy import func, select

from dccf.store import blobs
from dccf.store.blobs import BlobWriter
from dccf.store.database import Database
from dccf.store.tables import blob, blob_chunk

pytestmark = pytest.mark.postgres

CONTENTS = {
    "empty": b"",
    "small": b"hello",
    "one chunk": b"x" * blobs.CHUNK_BYTES,
    "compressible": b"line of text\n" * 500_000,
    "random": os.urandom(3 * blobs.CHUNK_BYTES + 7),
}


def in_pieces(content: bytes, size: int = 70_001) -> list[bytes]:
    return [content[start : start + size] for start in range(0, len(content), size)]


def test_contents_come_back_whole_and_in_parts(database: Database) -> None:
    with BlobWriter(database) as writer:
        for content in CONTENTS.values():
            writer.store(in_pieces(content))
    for content, stored in zip(CONTENTS.values(), writer.stored, strict=True):
        assert (hashlib.sha256(content).digest(), len(content)) == (stored.sha256, stored.size)
        assert content == b"".join(blobs.read(database, stored.id))
        assert content[5 : blobs.CHUNK_BYTES + 3] == b"".join(
            blobs.read(database, stored.id, 5, blobs.CHUNK_BYTES + 3)
        )
    together = blobs.Contents(database, [stored.id for stored in writer.stored])
    assert list(CONTENTS.values()) == [b"".join(together.read(index)) for index in range(len(CONTENTS))]


def test_a_large_content_is_written_batch_by_batch(database: Database) -> None:
    writer = BlobWriter(database)
    for _ in range(3 * blobs.BATCH_BYTES // blobs.CHUNK_BYTES):
        writer.write(os.urandom(blobs.CHUNK_BYTES))
    with database.begin() as tx:
        written = tx.execute(select(func.sum(func.length(blob_chunk.c.data)))).scalar()
    assert written is not None
    assert written >= 2 * blobs.BATCH_BYTES


def test_equal_contents_are_stored_once(database: Database) -> None:
    for _ in range(2):
        with BlobWriter(database) as writer:
            for content in [*CONTENTS.values(), *CONTENTS.values()]:
                writer.store([content])
    with database.begin() as tx:
        assert len(CONTENTS) == tx.execute(select(func.count()).select_from(blob)).scalar()


def test_writers_of_equal_contents_at_once_agree_on_one_copy(database: Database) -> None:
    contents = [os.urandom(1000) for _ in range(50)]
    barrier = threading.Barrier(4)
    ids: list[list[str]] = []

    def write(order: int) -> None:
        barrier.wait()
        with BlobWriter(database) as writer:
            for content in contents if order % 2 else reversed(contents):
                writer.store([content])
        ids.append(sorted(str(stored.id) for stored in writer.stored))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [ids[0]] * 4 == ids


def test_compression_is_kept_only_where_it_saves(database: Database) -> None:
    with BlobWriter(database) as writer:
        writer.store([CONTENTS["compressible"]])
        writer.store([CONTENTS["random"]])
    with database.begin() as tx:
        codecs = dict(tx.execute(select(blob.c.id, blob.c.codec)).all())
    assert [codecs[stored.id] for stored in writer.stored] == [blobs.ZSTD, blobs.RAW]


def test_the_sweep_removes_what_nothing_refers_to(database: Database) -> None:
    with BlobWriter(database) as writer:
        writer.store([b"unused"])
    with database.begin() as tx:
        assert blobs.sweep(tx, 3600, 10) == 0
        assert blobs.sweep(tx, -1, 10) == 1
        assert tx.execute(select(func.count()).select_from(blob_chunk)).scalar() == 0
