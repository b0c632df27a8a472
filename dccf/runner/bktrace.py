"""Reads BuildKit's progress, which the daemon sends as protobuf in base64.

Only the fields that a log needs; the numbers are those of ``moby.buildkit.v1.StatusResponse`` in
BuildKit's ``api/services/control/control.proto``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

#: Wire types of numbers with a fixed size.
_FIXED_BYTES = {1: 8, 5: 4}


class TraceError(Exception):
    """Raised when bytes are no protobuf message."""


@dataclass(frozen=True)
class Vertex:
    """One step of a build as BuildKit sees it. ``error`` is empty while all is well."""

    digest: str
    name: str
    is_cached: bool
    is_started: bool
    is_completed: bool
    error: str


@dataclass(frozen=True)
class VertexLog:
    """A piece of what a step printed; ``is_stderr`` says where."""

    digest: str
    is_stderr: bool
    data: bytes


def decode(message: bytes) -> Iterator[Vertex | VertexLog]:
    """Yield the steps and pieces of log in one status message, steps first.

    Raises:
        TraceError: the bytes are no such message.
    """
    for number, value in _fields(message):
        if number == 1 and isinstance(value, bytes):
            yield _vertex(value)
        elif number == 3 and isinstance(value, bytes):
            yield _log(value)


def _vertex(message: bytes) -> Vertex:
    fields = dict(_fields(message))
    return Vertex(
        digest=_text(fields.get(1)),
        name=_text(fields.get(3)),
        is_cached=bool(fields.get(4)),
        is_started=5 in fields,
        is_completed=6 in fields,
        error=_text(fields.get(7)),
    )


def _log(message: bytes) -> VertexLog:
    fields = dict(_fields(message))
    data = fields.get(4, b"")
    return VertexLog(_text(fields.get(1)), fields.get(3) == 2, data if isinstance(data, bytes) else b"")


def _text(value: int | bytes | None) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield the number and value of each field (protobuf's wire format)."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield number, value
            continue
        if kind not in _FIXED_BYTES and kind != 2:
            raise TraceError(f"field {number} has the unknown wire type {kind}")
        size, at = _varint(message, at) if kind == 2 else (_FIXED_BYTES[kind], at)
        if at + size > len(message):
            raise TraceError(f"field {number} ends after the message")
        data = message[at : at + size]
        yield number, data if kind == 2 else int.from_bytes(data, "little")
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift < 64:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise TraceError("a number does not end")
