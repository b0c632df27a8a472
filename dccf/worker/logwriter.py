"""Takes a container's output without ever blocking it, and writes it to the store in small pieces.

A stream longer than its cap keeps its head and its tail, and says how much was left out between.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from dccf import errors
from dccf.config import Settings
from dccf.lifecycle import channels
from dccf.lifecycle.attempts import Lease, require_fence
from dccf.models import LogChunk, Stream
from dccf.runner.base import StopSignal
from dccf.store import jobs, logs
from dccf.store.database import Database
from dccf.worker.persist import persist

log = logging.getLogger(__name__)

FLUSH_SECONDS = 0.25
CHUNK_BYTES = 64 << 10


class CappedStream:
    """One stream: pieces of its head go out at once, of the rest only the last ``tail_bytes`` are kept."""

    def __init__(self, head_bytes: int, tail_bytes: int) -> None:
        self._head_left = head_bytes
        self._tail_bytes = tail_bytes
        self._tail: deque[bytes] = deque()
        self._tail_size = 0
        self.omitted_bytes = 0

    def add(self, data: bytes) -> bytes:
        """Take a piece; give the part of it that belongs to the head."""
        head, rest = data[: self._head_left], data[self._head_left :]
        self._head_left -= len(head)
        if rest:
            self._tail.append(rest)
            self._tail_size += len(rest)
            while self._tail_size > self._tail_bytes:
                self._drop(self._tail_size - self._tail_bytes)
        return head

    def _drop(self, surplus: int) -> None:
        first = self._tail.popleft()
        if len(first) > surplus:
            self._tail.appendleft(first[surplus:])
        dropped = min(len(first), surplus)
        self._tail_size -= dropped
        self.omitted_bytes += dropped

    def take_tail(self) -> bytes:
        """Give the kept end of the stream, once."""
        tail = b"".join(self._tail)
        self._tail.clear()
        self._tail_size = 0
        return tail


class LogWriter:
    """A :class:`~dccf.runner.base.LogSink` that writes to the log of an attempt from a thread of its own."""

    def __init__(
        self,
        database: Database,
        lease: Lease,
        settings: Settings,
        stop: StopSignal,
        first_seq: int = 0,
        stored_bytes: Mapping[Stream, int] | None = None,
    ) -> None:
        """Go on after ``stored_bytes`` of each stream, with the piece numbered ``first_seq``."""
        self._database = database
        self._lease = lease
        self._stop = stop
        stored = stored_bytes or {}
        self._streams = {
            stream: CappedStream(max(0, settings.log_head_bytes - stored.get(stream, 0)), settings.log_tail_bytes)
            for stream in Stream
        }
        self._lock = threading.Lock()
        self._waiting: list[tuple[Stream, datetime, bytes]] = []
        self._seq = first_seq
        self._closing = threading.Event()
        self._is_abandoned = False
        self._thread = threading.Thread(target=self._run, name=f"log-{lease.job_id}", daemon=True)
        self._thread.start()

    def write(self, stream: Stream, data: bytes) -> None:
        """Take a piece of a stream; memory only, never waits for the store."""
        with self._lock:
            head = self._streams[stream].add(data)
            if head:
                self._waiting.append((stream, datetime.now(UTC), head))

    def close(self) -> None:
        """Write everything that is left, the tails included, and end the thread."""
        self._closing.set()
        self._thread.join()

    def abandon(self) -> None:
        """End the thread, and leave the rest to whoever goes on with the attempt."""
        self._is_abandoned = True
        self.close()

    def _run(self) -> None:
        try:
            while not self._closing.wait(FLUSH_SECONDS):
                self._flush(self._take())
            if not self._is_abandoned:
                self._flush([*self._take(), *self._take_tails()])
        except errors.FencePassed:
            log.info(
                "job %s: the log of attempt %d ends, its fence has passed", self._lease.job_id, self._lease.fence
            )

    def _take(self) -> list[LogChunk]:
        """Join what came in by stream, keeping the order in which streams followed each other."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
        chunks: list[LogChunk] = []
        position = 0
        while position < len(waiting):
            stream, at, _ = waiting[position]
            end = position
            while end < len(waiting) and waiting[end][0] is stream:
                end += 1
            chunks += self._chunks(stream, at, b"".join(piece for _, _, piece in waiting[position:end]), 0)
            position = end
        return chunks

    def _take_tails(self) -> list[LogChunk]:
        chunks: list[LogChunk] = []
        with self._lock:
            for stream, capped in self._streams.items():
                tail = capped.take_tail()
                if tail:
                    chunks += self._chunks(stream, datetime.now(UTC), tail, capped.omitted_bytes)
        return chunks

    def _chunks(self, stream: Stream, at: datetime, data: bytes, omitted_bytes: int) -> list[LogChunk]:
        chunks = []
        for start in range(0, len(data), CHUNK_BYTES):
            chunks.append(
                LogChunk(
                    seq=self._seq,
                    fence=self._lease.fence,
                    stream=stream,
                    at=at,
                    data=data[start : start + CHUNK_BYTES],
                    omitted_bytes=omitted_bytes if start == 0 else 0,
                )
            )
            self._seq += 1
        return chunks

    def _flush(self, chunks: Sequence[LogChunk]) -> None:
        if chunks:
            persist(lambda: self._store(chunks), self._stop)

    def _store(self, chunks: Sequence[LogChunk]) -> None:
        with self._database.begin() as tx:
            require_fence(tx, self._lease)
            logs.add(tx, self._lease.job_id, chunks)
            jobs.notify(tx, channels.JOB_CHANGED, str(self._lease.job_id))
