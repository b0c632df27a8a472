"""A multipart body that is read from its files while it is sent, so that its size does not matter."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from dccf import errors

READ_BYTES = 256 << 10
MODE_HEADER = "X-File-Mode"


@dataclass(frozen=True)
class Part:
    """A file of the body: its name in the bundle, and its content or where that lies."""

    field: str
    name: str
    content: bytes | Path
    mode: int = 0o644

    @property
    def size(self) -> int:
        """How many bytes its content has."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size


class Body:
    """A ``multipart/form-data`` body with a known length; it can be sent again from the start."""

    def __init__(
        self,
        parts: Sequence[Part],
        texts: dict[str, str],
        on_progress: Callable[[int], None] | None = None,
    ) -> None:
        self._boundary = secrets.token_hex(16)
        self._texts = b"".join(self._text(name, text) for name, text in texts.items())
        # Measured now: the length is promised before the first byte is sent.
        self._parts = [(part, self._head(part), part.size) for part in parts]
        self._on_progress = on_progress

    @property
    def content_type(self) -> str:
        """The header that goes with the body."""
        return f"multipart/form-data; boundary={self._boundary}"

    def __len__(self) -> int:
        files = sum(len(head) + size + len(b"\r\n") for _, head, size in self._parts)
        return len(self._texts) + files + len(self._end)

    def __iter__(self) -> Iterator[bytes]:
        sent = 0
        for piece in self._pieces():
            yield piece
            sent += len(piece)
            if self._on_progress is not None:
                self._on_progress(sent)

    @property
    def _end(self) -> bytes:
        return f"--{self._boundary}--\r\n".encode()

    def _pieces(self) -> Iterator[bytes]:
        yield self._texts
        for part, head, size in self._parts:
            yield head
            yield from _read(part, size)
            yield b"\r\n"
        yield self._end

    def _text(self, name: str, text: str) -> bytes:
        head = f'--{self._boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
        return f"{head}{text}\r\n".encode()

    def _head(self, part: Part) -> bytes:
        return (
            f"--{self._boundary}\r\n"
            f'Content-Disposition: form-data; name="{part.field}"; {encode_filename(part.name)}\r\n'
            f"Content-Type: application/octet-stream\r\n{MODE_HEADER}: {part.mode:o}\r\n\r\n"
        ).encode()


def encode_filename(name: str) -> str:
    """Write a file name as a parameter; anything unusual in percent signs (RFC 5987)."""
    if quote(name, safe="/") == name:
        return f'filename="{name}"'
    return f"filename*=UTF-8''{quote(name, safe='')}"  # here a "/" would end the name


def _read(part: Part, size: int) -> Iterator[bytes]:
    if isinstance(part.content, bytes):
        yield part.content
        return
    left = size
    with part.content.open("rb") as file:
        while data := file.read(min(READ_BYTES, left + 1)):
            left -= len(data)
            if left < 0:
                break
            yield data
    if left:
        raise errors.InvalidRequest(f"{part.content} changed while it was being sent; try again when it is at rest")
