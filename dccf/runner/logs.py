"""What a container prints, read off its attached streams and handed to the sink at once."""

from __future__ import annotations

import logging
import struct
import threading

from dccf.errors import EngineUnavailable
from dccf.models import Stream
from dccf.runner.base import LogSink
from dccf.runner.engine import Engine
from dccf.runner.wire import Exchange

_LOG = logging.getLogger(__name__)

_HEADER = struct.Struct(">BxxxL")
_STREAMS = {1: Stream.STDOUT, 2: Stream.STDERR}


class FrameDecoder:
    """Takes apart Docker's multiplexed stream: 8 bytes of header (stream, size), then the bytes.

    Keeps at most one header in memory: pieces of a frame are given out as they come.
    """

    def __init__(self) -> None:
        self._header = b""
        self._stream: Stream | None = None
        self._left = 0

    def feed(self, data: bytes) -> list[tuple[Stream, bytes]]:
        """Take the next bytes, and give the pieces that they hold, in order."""
        return [(stream, piece) for stream, piece, _ in self.feed_entries(data) if piece]

    def feed_entries(self, data: bytes) -> list[tuple[Stream, bytes, bool]]:
        """Do the same, and tell of each piece whether it ends its frame."""
        pieces: list[tuple[Stream, bytes, bool]] = []
        at = 0
        while at < len(data):
            if self._left == 0:
                missing = _HEADER.size - len(self._header)
                self._header += data[at : at + missing]
                at += missing
                if len(self._header) < _HEADER.size:
                    break
                number, self._left = _HEADER.unpack(self._header)
                self._header, self._stream = b"", _STREAMS.get(number)
                continue
            piece = data[at : at + self._left]
            at += len(piece)
            self._left -= len(piece)
            if self._stream is not None:
                pieces.append((self._stream, piece, self._left == 0))
        return pieces


class LogReader:
    """Reads one container's output in a thread of its own, so that the container never waits for a reader.

    ``limit_bytes`` counts both streams together; once it is passed nothing more reaches the sink, but
    reading goes on, since a container that cannot print cannot be told from one that works.
    """

    def __init__(self, engine: Engine, container: str, sink: LogSink, limit_bytes: int) -> None:
        self._exchange: Exchange = engine.exchange()
        self._sink = sink
        self._left = limit_bytes
        #: Set when the container printed more than it may.
        self.limit_exceeded = threading.Event()
        self._exchange.request(
            "POST", f"/containers/{container}/attach", {"stream": "1", "stdout": "1", "stderr": "1"}
        )
        self._thread = threading.Thread(target=self._read, name="dccf-log-reader", daemon=True)
        self._thread.start()

    def finish(self, timeout_seconds: float) -> bool:
        """Wait until everything was read, at most for so long; the connection is closed either way.

        Returns whether everything was read.
        """
        self._thread.join(timeout_seconds)
        is_complete = not self._thread.is_alive()
        self._exchange.cut()
        self._thread.join()
        return is_complete

    def _read(self) -> None:
        decoder = FrameDecoder()
        with self._exchange:
            try:
                while data := self._exchange.read():
                    for stream, piece in decoder.feed(data):
                        self._pass_on(stream, piece)
            except EngineUnavailable as error:
                # Whoever waits for the container finds out for himself what became of the daemon.
                _LOG.debug("The log stream broke: %s", error)

    def _pass_on(self, stream: Stream, piece: bytes) -> None:
        if self._left > 0:
            self._sink.write(stream, piece[: self._left])
        self._left -= len(piece)
        if self._left < 0:
            self.limit_exceeded.set()
