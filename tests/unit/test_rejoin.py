"""A log that is read once more is joined to what was stored: no byte lost, none doubled."""

from __future__ import annotations

import random

import pytest

from dccf.models import Stream
from dccf.worker.rejoin import PROBE_BYTES, Joint, RejoinedLog
from tests.runner_kit import Sink

LINES = b"".join(b"line %d\n" % number for number in range(20_000))


def read(joint: Joint, given: bytes, rng: random.Random) -> bytes:
    """Give a stream in pieces of random sizes; what comes out as new."""
    new, at = b"", 0
    while at < len(given):
        size = rng.choice((1, 7, 100, 5000, 70_000))
        new += joint.add(given[at : at + size])
        at += size
    return new + joint.finish()


@pytest.mark.parametrize("seed", range(40))
def test_what_is_stored_and_what_is_new_make_up_the_stream(seed: int) -> None:
    rng = random.Random(seed)
    stored = LINES[: rng.choice((0, 1, 10, 4096, rng.randint(0, len(LINES)), len(LINES)))]
    joint = Joint(stored)

    assert stored + read(joint, LINES, rng) == LINES
    assert not joint.has_gap


@pytest.mark.parametrize("seed", range(40))
def test_a_log_whose_beginning_was_dropped_is_joined_where_it_overlaps(seed: int) -> None:
    rng = random.Random(seed)
    end = rng.randint(10_000, len(LINES))
    begin = rng.randint(1, end - 64)
    joint = Joint(LINES[:end])

    assert LINES[:end] + read(joint, LINES[begin:], rng) == LINES
    assert not joint.has_gap


def test_what_nobody_has_any_more_is_said_to_be_missing() -> None:
    joint = Joint(LINES[:50_000])

    assert read(joint, LINES[60_000:], random.Random(1)) == LINES[60_000:]
    assert joint.has_gap


def test_a_short_log_is_held_back_only_until_its_end() -> None:
    joint = Joint(LINES[:1000])
    given = LINES[900 : 900 + PROBE_BYTES // 2]

    assert joint.add(given) == b""
    assert joint.finish() == given[100:]


def test_lines_that_are_all_the_same_come_out_in_their_number() -> None:
    joint = Joint(b"y\n" * 1000)

    assert read(joint, b"y\n" * 5000, random.Random(1)) == b"y\n" * 4000


def test_each_stream_is_joined_by_itself_and_a_complete_one_is_left_alone() -> None:
    sink = Sink()
    stored = {Stream.STDOUT: b"out 1\n", Stream.STDERR: b"err 1\n"}
    rejoined = RejoinedLog(sink, stored, closed={Stream.STDERR})

    for stream, data in ((Stream.STDERR, b"err 1\nerr 2\n"), (Stream.STDOUT, b"out 1\nout 2\n")):
        rejoined.write(stream, data)

    assert rejoined.finish()
    assert (sink.data(Stream.STDOUT), sink.data(Stream.STDERR)) == (b"out 2\n", b"")
