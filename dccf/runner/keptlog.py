"""What the daemon has kept of a container's output, and what it adds: for who was not attached from the start.

It is asked again and again for what is newer than the last line. Docker's own way to follow a log loses the rest when
the file is rotated meanwhile (20.10.24, driver ``local``: seen).
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from dccf.errors import EngineUnavailable
from dccf.models import Stream
from dccf.runner.base import LogSink
from dccf.runner.engine import Engine, parse_time
from dccf.runner.logs import FrameDecoder
from dccf.runner.wire import Refused

_LOG = logging.getLogger(__name__)

POLL_SECONDS = 0.25
#: Longest wait for the next bytes of an answer.
READ_SECONDS = 60.0


@dataclass
class _Place:
    """How far a stream was read: the time of its last entry, and how many entries have that very time."""

    time: str = ""
    entries: int = 0


class KeptLog:
    """The log of one container from its beginning, as far as the daemon has it.

    ``limit_bytes`` counts both streams together; once it is passed nothing more reaches the sink.
    """

    def __init__(self, engine: Engine, container: str, sink: LogSink, limit_bytes: int) -> None:
        self._engine = engine
        self._container = container
        self._sink = sink
        self._left = limit_bytes
        # Within a stream times never go back; of two streams one may be written after the other's later time.
        self._places = {Stream.STDOUT: _Place(), Stream.STDERR: _Place()}
        self._ended = threading.Event()
        self._has_gap = False
        #: Set when the container printed more than it may.
        self.limit_exceeded = threading.Event()

    @contextlib.contextmanager
    def following(self) -> Iterator[None]:
        """Pass on what there is and what comes, in a thread of its own, while the block lasts."""
        thread = threading.Thread(target=self._follow, name="dccf-kept-log", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def read_rest(self) -> bool:
        """Pass on what has not been; tells whether the daemon gave all that came after its beginning."""
        try:
            self._read()
        except (EngineUnavailable, Refused) as error:
            _LOG.warning("the end of a log cannot be read: %s", error)
            return False
        return not self._has_gap

    def _follow(self) -> None:
        while not self._ended.is_set():
            began = time.monotonic()
            try:
                self._read()
            except (EngineUnavailable, Refused) as error:
                # Whoever waits for the container finds out for himself what became of the daemon.
                _LOG.debug("a log cannot be read: %s", error)
            # The daemon reads its files from the beginning each time, up to 20 MB: it gets as long to rest.
            self._ended.wait(max(POLL_SECONDS, time.monotonic() - began))

    def _read(self) -> None:
        for stream, place in self._places.items():
            self._read_stream(stream, place)

    def _read_stream(self, stream: Stream, place: _Place) -> None:
        """Read a stream from its place on.

        ``since`` includes its own time: what was read of that comes again and is passed over, or is no longer there.
        """
        parameters = {str(stream): "1", "timestamps": "1", **({"since": place.time} if place.time else {})}
        known, entry = place.entries, b""
        with self._engine.exchange(READ_SECONDS) as exchange:
            exchange.request("GET", f"/containers/{self._container}/logs", parameters)
            decoder = FrameDecoder()
            while data := exchange.read():
                for _, piece, is_end in decoder.feed_entries(data):
                    entry += piece
                    if is_end:
                        known = self._take(stream, place, entry, known)
                        entry = b""

    def _take(self, stream: Stream, place: _Place, entry: bytes, known: int) -> int:
        """Pass on an entry, unless it is one of those known; give how many of them are still to come."""
        stamp, _, text = entry.partition(b" ")
        at = _since(stamp.decode("ascii", "replace"))
        if at == place.time and known:
            return known - 1
        # Where the last entry read did not come again, the daemon has dropped it and what followed.
        self._has_gap |= known > 0
        place.entries = place.entries + 1 if at == place.time else 1
        place.time = at
        if self._left > 0:
            self._sink.write(stream, text[: self._left])
        self._left -= len(text)
        if self._left < 0:
            self.limit_exceeded.set()
        return 0


def _since(stamp: str) -> str:
    """Write an entry's time as the daemon wants to be asked: seconds and nanoseconds, exactly."""
    nanoseconds = stamp.partition(".")[2][:9]
    return f"{int(parse_time(stamp).timestamp())}.{nanoseconds:0<9}"
