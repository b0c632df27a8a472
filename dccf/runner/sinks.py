"""Stands between a container's output and the log: keeps secrets out of it, and remembers its end."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from pydantic import SecretStr

from dccf.models import Stream
from dccf.runner.base import LogSink

MASK = b"***"
#: Lines of a secret (of a key in PEM, say), and beginnings of one at the very end, are hidden from this length on.
_MIN_PART_BYTES = 8
_KEPT_BYTES = 4096


class Redactor:
    """Passes output on with ``***`` in place of secrets, also where one comes in several pieces.

    Each stream is looked at by itself. What may be the beginning of a secret is held back until more comes;
    everything else goes on at once. Where secrets overlap the one that begins first counts, then the longest.
    """

    def __init__(self, sink: LogSink, secrets: Iterable[str]) -> None:
        whole = {secret.encode() for secret in secrets}
        lines = {line.strip() for secret in whole for line in secret.splitlines()}
        self._secrets = sorted(
            whole | {line for line in lines if len(line) >= _MIN_PART_BYTES}, key=len, reverse=True
        )
        self._pattern = re.compile(b"|".join(map(re.escape, self._secrets)))
        #: What the last byte of a secret's beginning can be; most output ends in none of these.
        self._inner = frozenset(byte for secret in self._secrets for byte in secret[:-1])
        self._sink = sink
        self._held: dict[Stream, bytes] = {}

    def write(self, stream: Stream, data: bytes) -> None:
        """Take a piece of one stream."""
        data = self._held.pop(stream, b"") + data
        data, hold_at = self._masked(data, self._beginning_in(data, 0))
        if hold_at < len(data):
            self._held[stream] = data[hold_at:]
        if hold_at:
            self._sink.write(stream, data[:hold_at])

    def finish(self) -> None:
        """Pass on what was held back: nothing more comes."""
        held, self._held = self._held, {}
        for stream, data in held.items():
            rest, _ = self._masked(data, len(data))
            self._sink.write(stream, MASK if rest == data and len(data) >= _MIN_PART_BYTES else rest)

    def _masked(self, data: bytes, hold_at: int) -> tuple[bytes, int]:
        """Mask the secrets that begin before ``hold_at``; give the new text, and where to hold it back from."""
        pieces, at = [], 0
        while (found := self._pattern.search(data, at)) and found.start() < hold_at:
            pieces += [data[at : found.start()], MASK]
            at = found.end()
            if hold_at < at:
                hold_at = self._beginning_in(data, at)
        ready = b"".join([*pieces, data[at:hold_at]])
        return ready + data[hold_at:], len(ready)

    def _beginning_in(self, data: bytes, start: int) -> int:
        """Find where the first proper beginning of a secret stands that reaches to the end; the end if none does."""
        first = len(data)
        if not data or data[-1] not in self._inner:
            return first
        for secret in self._secrets:
            at = data.find(secret[:1], max(start, len(data) - len(secret) + 1), first)
            while at >= 0 and not secret.startswith(data[at:]):
                at = data.find(secret[:1], at + 1, first)
            first = at if at >= 0 else first
        return first


class OutputSink:
    """The way of a container's output to the log: secrets are masked, and how each stream ended is remembered."""

    def __init__(self, sink: LogSink, secrets: Collection[SecretStr]) -> None:
        self._redactor = Redactor(sink, [secret.get_secret_value() for secret in secrets])
        self._sink = self._redactor if secrets else sink
        self._ends: dict[Stream, bytearray] = {}

    def write(self, stream: Stream, data: bytes) -> None:
        """Take a piece of one stream."""
        self._sink.write(stream, data)
        end = self._ends.setdefault(stream, bytearray())
        end += data[-_KEPT_BYTES:]
        if len(end) > 4 * _KEPT_BYTES:
            del end[:-_KEPT_BYTES]

    def finish(self) -> None:
        """Pass on what was held back: nothing more comes."""
        self._redactor.finish()

    def end(self) -> bytes:
        """Give the last 4 KiB of each stream, one after the other, with secrets and all: not to be kept."""
        return b"\n".join(bytes(end[-_KEPT_BYTES:]) for end in self._ends.values())
