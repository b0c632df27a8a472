"""Joins a log that the engine gives once more to what was stored of it: no byte is lost and none is doubled.

What was stored of a stream is its beginning, byte for byte. The engine gives the stream from its own beginning, which
is the same unless it has dropped a part by then (Docker keeps the last 20 MB). Then the two are joined where the end
of what was stored is the beginning of what is given.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from dccf.models import Stream
from dccf.runner.base import LogSink

#: So much of what is given is looked for in what was stored; at its very end less is enough.
PROBE_BYTES = 4096
_LEAST_BYTES = 64


class Joint:
    """One stream: passes on what follows ``stored``."""

    def __init__(self, stored: bytes) -> None:
        self._stored = stored
        self._given = b""
        self._is_same = True
        self._is_joined = not stored
        #: Set when the engine no longer had what follows what was stored.
        self.has_gap = False

    def add(self, data: bytes) -> bytes:
        """Take the next piece of the stream as the engine gives it; give what of it is new."""
        if self._is_joined:
            return data
        if not self._is_same:
            self._given += data
            return self._search(is_end=False)
        at = len(self._given)
        if data.startswith(self._stored[at : at + len(data)]):
            self._given += data
            if len(self._given) < len(self._stored):
                return b""
            return self._join(len(self._stored))
        self._is_same = False
        self._given += data
        return self._search(is_end=False)

    def finish(self) -> bytes:
        """Give what is new in what was held back: the stream has ended."""
        if self._is_joined or self._is_same:
            return b""
        return self._search(is_end=True)

    def _join(self, known_bytes: int) -> bytes:
        new, self._given, self._stored = self._given[known_bytes:], b"", b""
        self._is_joined = True
        return new

    def _search(self, *, is_end: bool) -> bytes:
        """Find where what is given begins in what was stored, as early as can be said."""
        if len(self._given) < PROBE_BYTES and not is_end:
            return b""
        probe = self._given[:PROBE_BYTES]
        at = self._stored.find(probe)
        while at >= 0:
            known = self._stored[at:]
            if len(known) > len(self._given):
                if not is_end and known.startswith(self._given):
                    return b""  # more has to come before this can be told
            elif self._given.startswith(known):
                return self._join(len(known))
            at = self._stored.find(probe, at + 1)
        for size in range(min(len(probe), len(self._stored)), _LEAST_BYTES - 1, -1):
            if self._stored.endswith(probe[:size]):
                return self._join(size)
        self.has_gap = True
        return self._join(0)


class RejoinedLog:
    """A :class:`~dccf.runner.base.LogSink` before the one that goes on with a stored log."""

    def __init__(self, sink: LogSink, stored: Mapping[Stream, bytes], closed: Collection[Stream] = ()) -> None:
        """``closed`` names the streams that are stored to their ends."""
        self._sink = sink
        self._closed = frozenset(closed)
        self._joints = {stream: Joint(stored.get(stream, b"")) for stream in (Stream.STDOUT, Stream.STDERR)}

    def write(self, stream: Stream, data: bytes) -> None:
        """Take a piece of the stream as the engine gives it."""
        if stream not in self._closed:
            self._pass_on(stream, self._joints[stream].add(data))

    def finish(self) -> bool:
        """Pass on what was held back, once all was given; tells whether nothing is missing in between."""
        for stream, joint in self._joints.items():
            self._pass_on(stream, joint.finish())
        return not any(joint.has_gap for joint in self._joints.values())

    def _pass_on(self, stream: Stream, data: bytes) -> None:
        if data:
            self._sink.write(stream, data)
