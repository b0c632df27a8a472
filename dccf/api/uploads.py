"""Uploads: a multipart body streams into the store; no temporary file, no memory, no second copy.

Werkzeug's ``request.files`` would spool every file to disk and does not tell its sink which field a
file belongs to; its decoder does, and leaves the reading to us.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

from flask import request
from werkzeug.exceptions import (
    ClientDisconnected,
    HTTPException,
    RequestEntityTooLarge,
    RequestTimeout,
    UnsupportedMediaType,
)
from werkzeug.sansio import multipart
from werkzeug.wsgi import get_input_stream

from dccf import errors
from dccf.api.context import Services
from dccf.lifecycle.intake import DOCKERFILE, Intake

READ_BYTES = 64 << 10
#: Headers of one part, and one text field, may be this long.
MAX_FIELD_BYTES = 1 << 20
#: Parts beside files.
_OTHER_PARTS = 16
#: Read and thrown away after a refusal, since clients look at the answer only when they have sent all.
_DRAIN_BYTES = 64 << 20
#: Header of a part with the permission bits of its file, in octal; multipart has no word for them.
MODE_HEADER = "X-File-Mode"
_DEFAULT_MODE = 0o644


@dataclass(frozen=True)
class Form:
    """The fields that one endpoint takes."""

    dockerfile: str
    files: str
    texts: frozenset[str] = frozenset()

    @property
    def names(self) -> str:
        """The names of all fields, for people."""
        return ", ".join(sorted({self.dockerfile, self.files, *self.texts}))


@dataclass
class Received:
    """What has come in."""

    intake: Intake
    texts: dict[str, str] = field(default_factory=dict)


def receive(services: Services, form: Form) -> Received:
    """Take in the multipart body of this request.

    Raises:
        InvalidRequest: the body or a name in it is not allowed, or there is no Dockerfile.
        RequestEntityTooLarge: the body is larger than the limit.
        RequestTimeout: the body stopped coming.
        StoreUnavailable: PostgreSQL is away.
    """
    boundary = request.mimetype_params.get("boundary", "")
    if request.mimetype != "multipart/form-data" or not boundary:
        raise UnsupportedMediaType(f"send the files as multipart/form-data with the fields {form.names}")
    decoder = multipart.MultipartDecoder(
        boundary.encode("utf-8", "replace"),
        MAX_FIELD_BYTES,
        max_parts=services.settings.max_bundle_files + _OTHER_PARTS,
    )
    received = Received(Intake(services.database, services.settings))
    try:
        _take_parts(decoder, form, received)
        received.intake.finish()
    except RequestTimeout:
        raise  # there is nothing to throw away
    except (errors.DccfError, HTTPException):
        _drain()
        raise
    return received


def _take_parts(decoder: multipart.MultipartDecoder, form: Form, received: Received) -> None:
    events = _events(decoder)
    for event in events:
        if isinstance(event, multipart.Field | multipart.File):
            _take_part(event, events, form, received)


def _take_part(
    part: multipart.Field | multipart.File, events: Iterator[multipart.Event], form: Form, received: Received
) -> None:
    name = part.name or ""
    if name in form.texts and name not in received.texts:
        received.texts[name] = _text(name, events)
    elif name == form.dockerfile:
        _file(DOCKERFILE, part, events, received.intake)
    elif name == form.files and isinstance(part, multipart.File):
        _file(part.filename, part, events, received.intake)
    elif name == form.files:
        raise errors.InvalidRequest(f"the field {name!r} needs a file with a name; with curl: -F '{name}=@data.csv'")
    elif name in form.texts:
        raise errors.InvalidRequest(f"the field {name!r} came twice")
    else:
        raise errors.InvalidRequest(f"there is no field {name[:100]!r}; the fields are {form.names}")


def _file(
    path: str, part: multipart.Field | multipart.File, events: Iterator[multipart.Event], intake: Intake
) -> None:
    pieces = _data(events)
    first = next((piece for piece in pieces if piece), b"")
    if isinstance(part, multipart.File) and not part.filename and not first:
        return  # a form in a browser sends this for a file that nobody chose
    intake.begin(path, _mode(part))
    for piece in itertools.chain([first], pieces):
        intake.write(piece)
    intake.end()


def _mode(part: multipart.Field | multipart.File) -> int:
    text = part.headers.get(MODE_HEADER)
    if text is None:
        return _DEFAULT_MODE
    try:
        return int(text, 8)
    except ValueError as error:
        raise errors.InvalidRequest(f"{MODE_HEADER}: {text[:20]!r} is not an octal number like 755") from error


def _text(name: str, events: Iterator[multipart.Event]) -> str:
    collected = bytearray()
    for data in _data(events):
        collected += data
        if len(collected) > MAX_FIELD_BYTES:
            raise errors.InvalidRequest(f"the field {name!r} is longer than {MAX_FIELD_BYTES} bytes")
    try:
        return collected.decode()
    except UnicodeDecodeError as error:
        raise errors.InvalidRequest(f"the field {name!r} is not valid UTF-8") from error


def _data(events: Iterator[multipart.Event]) -> Iterator[bytes]:
    """Yield the data of the part whose head has just come."""
    for event in events:
        if isinstance(event, multipart.Data):
            yield event.data
            if not event.more_data:
                return


def _events(decoder: multipart.MultipartDecoder) -> Iterator[multipart.Event]:
    while True:
        for event in _decode(decoder, _read() or None):
            yield event
            if isinstance(event, multipart.Epilogue):
                return


def _read() -> bytes:
    try:
        return request.stream.read(READ_BYTES)
    except ClientDisconnected as error:  # or it stood still; who is gone does not see this
        raise RequestTimeout("the body stopped coming before its end; send the request again") from error


def _decode(decoder: multipart.MultipartDecoder, data: bytes | None) -> Iterator[multipart.Event]:
    """Yield what the next bytes of the body bring; ``None`` is its end."""
    try:
        decoder.receive_data(data)
        while not isinstance(event := decoder.next_event(), multipart.NeedData):
            yield event
            if isinstance(event, multipart.Epilogue):
                return
    except RequestEntityTooLarge as error:  # the decoder's limits, not that of the body as a whole
        raise errors.InvalidRequest(
            f"the multipart body has more than {decoder.max_parts} parts, or the headers of one are longer than "
            f"{MAX_FIELD_BYTES} bytes"
        ) from error
    except ValueError as error:
        raise errors.InvalidRequest("the multipart body is broken, or it ended too early") from error


def _drain() -> None:
    """Throw away some of what is still coming, so that the client gets to see our answer."""
    if not request.environ.get("wsgi.input_terminated"):
        return  # only then is it safe to read on after a part has been read
    stream = get_input_stream(request.environ)
    left = _DRAIN_BYTES
    while left > 0 and (data := stream.read(READ_BYTES)):
        left -= len(data)
