"""Logs: as plain text, or live as Server-Sent Events."""

from __future__ import annotations

import codecs
import json
import logging
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import Event
from typing import Any

from apiflask import APIBlueprint
from flask import Response, request

from dccf import errors
from dccf.api import queries
from dccf.api.context import Services, find_job, services
from dccf.api.queries import LogQuery
from dccf.models import Job, LogChunk, Stream
from dccf.store import jobs, logs

log = logging.getLogger(__name__)

bp = APIBlueprint("logs", __name__, url_prefix="/v1/jobs", tag="Logs")

#: A stream ends after this long; the client comes again with Last-Event-ID.
_LONGEST_SECONDS = 600.0
#: A stream that hears of no change looks by itself this often. It also says so in a comment: a client that
#: has gone away is only noticed by writing to it.
_LOOK_SECONDS = 1.0
_EVENT_ID = re.compile(r"(\d{1,9})-(\d{1,9})")

Position = tuple[int, int]


@bp.get("/<job_id>/logs")
def get_log(job_id: str) -> Response:
    """Get what a job printed.

    Plain text of one attempt; with `follow=1` Server-Sent Events of all attempts until the job has
    ended: `log` (`{"attempt", "stream", "at", "text", "omitted_bytes"}`), `state` (the job, whenever it
    has changed) and `end` (the job). A client that comes again with `Last-Event-ID` misses nothing.
    """
    query = queries.parse(LogQuery)
    job = find_job(job_id)
    if query.follow:
        return _follow(job, query)
    fence = query.attempt or job.fence
    if fence > job.fence:
        last = f"its last one is attempt {job.fence}" if job.fence else "it has had none yet"
        raise errors.NotFound(f"job {job.id} has no attempt {fence}; {last}")
    response = Response(_text(services(), job, fence, query.stream), content_type="text/plain; charset=utf-8")
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def _text(shared: Services, job: Job, fence: int, streams: tuple[Stream, ...]) -> Iterator[bytes]:
    """Yield a log as it was printed, a few pieces at a time, so that a slow reader holds no connection."""
    after = -1
    while True:
        with shared.database.begin() as tx:
            chunks = logs.get(tx, job.id, fence, streams, after)
        for chunk in chunks:
            after = chunk.seq
            if chunk.omitted_bytes:
                yield f"\n[{chunk.omitted_bytes} bytes left out here]\n".encode()
            yield chunk.data
        if not chunks:
            return


def _follow(job: Job, query: LogQuery) -> Response:
    position = _position(request.headers.get("Last-Event-ID"), query)
    shared = services()
    shared.take_wait_place()
    follower = Follower(shared, job, query, position)
    response = Response(follower.events(), content_type="text/event-stream")
    # Also when the client is gone before the first piece, when the generator never starts.
    response.call_on_close(shared.waiting.release)
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"
    return response


def _position(last_event_id: str | None, query: LogQuery) -> Position:
    """Say after which piece the stream begins."""
    if not last_event_id:
        return query.attempt or 0, -1
    match = _EVENT_ID.fullmatch(last_event_id)
    if match is None:
        raise errors.InvalidRequest(f"Last-Event-ID {last_event_id[:40]!r} is not one of ours")
    return int(match[1]), int(match[2])


@dataclass
class Follower:
    """Turns what happens to one job into events, from a position on."""

    shared: Services
    job: Job
    query: LogQuery
    position: Position
    _decoders: dict[tuple[int, Stream], codecs.IncrementalDecoder] = field(default_factory=dict)

    def events(self) -> Iterator[str]:
        """Yield the events until the job has ended, or until it is time to connect again."""
        try:
            yield from self._until_end(time.monotonic() + _LONGEST_SECONDS)
        except errors.StoreUnavailable as error:
            log.warning("the stream of job %s breaks off: %s", self.job.id, error)

    def _until_end(self, deadline: float) -> Iterator[str]:
        with self.shared.changes.watch(self.job.id) as changed:
            yield event("state", self.job.model_dump(mode="json"))
            while time.monotonic() < deadline:
                # Read before the log: what an ended job printed is complete.
                now = self._look()
                if now != self.job and not now.state.is_final:
                    yield event("state", now.model_dump(mode="json"))
                self.job = now
                yield from self._new_log(now)
                if now.state.is_final or self._attempt_is_over(now):
                    yield event("end", now.model_dump(mode="json"))
                    return
                yield from _pause(changed)

    def _look(self) -> Job:
        with self.shared.database.begin() as tx:
            found = jobs.get(tx, self.job.id)
        if found is None:
            raise errors.NotFound(f"job {self.job.id} was removed")
        return found

    def _attempt_is_over(self, job: Job) -> bool:
        wanted = self.query.attempt
        return wanted is not None and (job.fence > wanted or (job.fence == wanted and not job.state.is_active))

    def _new_log(self, job: Job) -> Iterator[str]:
        last = min(job.fence, self.query.attempt or job.fence)
        for fence in range(max(self.position[0], 1), last + 1):
            after = self.position[1] if fence == self.position[0] else -1
            while chunks := self._read(fence, after):
                for chunk in chunks:
                    yield event("log", self._describe(chunk), f"{chunk.fence}-{chunk.seq}")
                after = chunks[-1].seq
                self.position = fence, after

    def _read(self, fence: int, after: int) -> tuple[LogChunk, ...]:
        with self.shared.database.begin() as tx:
            return logs.get(tx, self.job.id, fence, self.query.stream, after)

    def _describe(self, chunk: LogChunk) -> dict[str, Any]:
        # A character may begin in one piece and end in the next.
        key = chunk.fence, chunk.stream
        decoder = self._decoders.get(key)
        if decoder is None:
            decoder = self._decoders[key] = codecs.getincrementaldecoder("utf-8")("replace")
        return {
            "attempt": chunk.fence,
            "stream": chunk.stream,
            "at": chunk.at.isoformat(),
            "text": decoder.decode(chunk.data),
            "omitted_bytes": chunk.omitted_bytes,
        }


def _pause(changed: Event) -> Iterator[str]:
    """Wait for a change, or a while."""
    if changed.wait(_LOOK_SECONDS):
        changed.clear()
    else:
        yield ": waiting\n\n"


def event(name: str, data: dict[str, Any], event_id: str | None = None) -> str:
    """Write one Server-Sent Event."""
    head = "" if event_id is None else f"id: {event_id}\n"
    return f"{head}event: {name}\ndata: {json.dumps(data)}\n\n"
