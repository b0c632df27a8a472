"""The multipart encoder, read back by Werkzeug's decoder."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path

import pytest
from werkzeug.formparser import MultiPartParser

from dccf import errors
from dccf.client.multipart import Body, Part, encode_filename

NAMES = [
    "a.txt",
    "deep/er/b",
    'qu"ote',
    "back\\slash",
    "ünï cödé",
    "fol der/ä/b",
    "new\nline",
    "semi;colon=",
    "100%",
    "'",
]


def decode(body: Body) -> tuple[dict[str, str], dict[str, bytes]]:
    boundary = body.content_type.partition("boundary=")[2].encode()
    data = b"".join(body)
    assert len(data) == len(body)
    form, files = MultiPartParser().parse(io.BytesIO(data), boundary, len(data))
    contents = {}
    for file in files.getlist("files"):
        with file.stream:
            contents[str(file.filename)] = file.read()
    return form.to_dict(), contents


def test_what_is_sent_is_what_arrives(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"--\r\n" * 1000)
    parts = [Part("files", "empty", b""), Part("files", "from/file", path), Part("files", "nl", b"\r\n\r\n")]

    form, files = decode(Body(parts, {"spec": '{"a": "ü"}'}))

    assert form == {"spec": '{"a": "ü"}'}
    assert files == {"empty": b"", "from/file": b"--\r\n" * 1000, "nl": b"\r\n\r\n"}


@pytest.mark.parametrize("name", NAMES)
def test_any_name_arrives_as_it_is(name: str) -> None:
    assert list(decode(Body([Part("files", name, b"x")], {}))[1]) == [name]


def test_a_plain_name_stays_readable() -> None:
    assert encode_filename("a/b-c_1.txt") == 'filename="a/b-c_1.txt"'


def test_the_mode_of_a_file_goes_along() -> None:
    assert b"X-File-Mode: 755\r\n" in b"".join(Body([Part("files", "a", b"", 0o755)], {}))


def test_a_body_can_be_sent_again() -> None:
    body = Body([Part("files", "a", b"x")], {"spec": "{}"})

    assert list(body) == list(body)


def test_progress_ends_at_the_length_of_the_body(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 1_000_000)
    seen: list[int] = []
    body = Body([Part("files", "a", path)], {}, seen.append)

    for _ in body:
        pass

    assert seen == sorted(seen)
    assert seen[-1] == len(body)


@pytest.mark.parametrize("size", [0, 5, 15])
def test_a_file_that_changes_while_it_is_sent_is_an_error(tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 10)
    body = Body([Part("files", "a", path)], {})
    path.write_bytes(b"x" * size)

    with pytest.raises(errors.InvalidRequest, match="changed while it was being sent"):
        list(body)


def test_a_large_file_is_never_held(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(300 << 20)
    body = Body([Part("files", "large", path)], {})

    tracemalloc.start()
    total = sum(len(piece) for piece in body)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert total == len(body)
    assert peak < 4 << 20
