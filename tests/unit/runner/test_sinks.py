"""Secrets never reach the log, however the output is cut into pieces; nothing else is held back or lost."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dccf.models import Stream
from dccf.runner.sinks import OutputSink, Redactor
from tests.runner_kit import Sink

SECRET = "correct-horse-battery"


def redacted(secrets: Iterable[str], pieces: Iterable[bytes]) -> bytes:
    """What comes out on stdout."""
    sink = Sink()
    redactor = Redactor(sink, secrets)
    for piece in pieces:
        redactor.write(Stream.STDOUT, piece)
    redactor.finish()
    return sink.data(Stream.STDOUT)


@pytest.mark.parametrize("size", range(1, len(SECRET) + 3))
def test_a_secret_in_pieces_of_any_size_is_masked(size: int) -> None:
    text = f"a{SECRET}{SECRET}b {SECRET[:-1]} {SECRET}\nend co".encode()
    pieces = [text[at : at + size] for at in range(0, len(text), size)]

    assert redacted([SECRET], pieces) == f"a******b {SECRET[:-1]} ***\nend co".encode()


@pytest.mark.parametrize(
    ("secrets", "text", "expected"),
    [
        (["abcdefgh", "abcdefghij"], b"abcdefghij abcdefghix abcdefgh", b"*** ***ix ***"),
        (["xxxxxxab", "abcdefgh"], b"xxxxxxab", b"***"),
        (["xxxxxxab", "abcdefgh"], b"xxxxxxabcdefgh", b"***cdefgh"),
        (["aaaaaaab"], b"aaaaaaaaaaab", b"aaaa***"),
        (["key-one\nkey-two-longer\n\n"], b"x key-two-longer y key-one z", b"x *** y key-one z"),
        (["a.c*e(g[i"], b"a.c*e(g[i abcdefghi", b"*** abcdefghi"),
        (["pässwörd"], "das pässwörd".encode(), b"das ***"),
    ],
)
def test_secrets_that_overlap_have_lines_or_odd_characters(secrets: list[str], text: bytes, expected: bytes) -> None:
    assert redacted(secrets, [text]) == expected
    assert redacted(secrets, [text[at : at + 1] for at in range(len(text))]) == expected


def test_the_beginning_of_a_secret_at_the_very_end_is_masked_from_eight_bytes_on() -> None:
    """The limit of a log may cut a secret in two."""
    assert redacted([SECRET], [b"x", SECRET[:12].encode()]) == b"x***"
    assert redacted([SECRET], [b"x", SECRET[:3].encode()]) == b"xcor"


def test_each_stream_is_looked_at_by_itself() -> None:
    sink = Sink()
    redactor = Redactor(sink, [SECRET])
    redactor.write(Stream.STDOUT, SECRET[:10].encode())
    redactor.write(Stream.STDERR, b"words\n")
    redactor.write(Stream.STDOUT, SECRET[10:].encode())
    redactor.finish()

    assert [sink.data(Stream.STDOUT), sink.data(Stream.STDERR)] == [b"***", b"words\n"]


def test_what_begins_no_secret_goes_on_at_once() -> None:
    sink = Sink()
    redactor = Redactor(sink, [SECRET])
    redactor.write(Stream.STDOUT, b"Password: cor")

    assert sink.data(Stream.STDOUT) == b"Password: "


@given(
    st.lists(st.text("ab", min_size=8, max_size=12), min_size=1, max_size=3),
    st.lists(st.one_of(st.integers(0, 2), st.text("abc", max_size=12)), max_size=8),
    st.integers(1, 9),
)
def test_pieces_make_no_difference_and_no_secret_comes_through(
    secrets: list[str], parts: list[int | str], size: int
) -> None:
    text = "".join(part if isinstance(part, str) else secrets[part % len(secrets)] for part in parts).encode()

    whole = redacted(secrets, [text])

    assert whole == redacted(secrets, [text[at : at + size] for at in range(0, len(text), size)])
    assert not any(secret.encode() in whole for secret in secrets)


def test_the_ends_of_the_streams_are_remembered() -> None:
    sink = Sink()
    ends = OutputSink(sink, [])
    for number in range(9000):
        ends.write(Stream.STDOUT, b"%07d\n" % number)
    ends.write(Stream.STDERR, b"x" * 10_000 + b"last")

    stdout, stderr = ends.end().split(b"\n" + b"x" * 4092, 1)[0], ends.end()[-4:]
    assert (stdout[-8:], len(stdout), stderr) == (b"0008999\n", 4096, b"last")
    assert len(sink.data(Stream.STDOUT)) == 72_000
