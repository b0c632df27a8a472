"""Server-Sent Events."""

from __future__ import annotations

from dccf.client.sse import ServerEvent, parse


def test_events_are_read_and_comments_are_not() -> None:
    lines = [b": waiting", b"", b"id: 1-2", b"event: log", b"data: {}", b"", b"data:a", b"data: b", b""]

    assert list(parse(lines)) == [ServerEvent("log", "{}", "1-2"), ServerEvent("message", "a\nb", "1-2")]


def test_an_event_that_is_cut_off_is_left_out() -> None:
    assert list(parse([b"event: log", b"data: {"])) == []
