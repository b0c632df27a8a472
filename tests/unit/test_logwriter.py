"""A stream longer than its cap keeps its head and its tail, and knows what it left out."""

from __future__ import annotations

import random

import pytest

from dccf.worker.logwriter import CappedStream


def pieces_of(data: bytes, rng: random.Random) -> list[bytes]:
    """Split data at random places; empty pieces come too."""
    cuts = sorted(rng.randint(0, len(data)) for _ in range(rng.randint(0, 12)))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def test_what_fits_the_head_goes_out_at_once() -> None:
    stream = CappedStream(head_bytes=8, tail_bytes=4)

    assert [stream.add(b"abc"), stream.add(b"defgh"), stream.take_tail()] == [b"abc", b"defgh", b""]
    assert stream.omitted_bytes == 0


def test_a_piece_may_end_the_head_and_begin_the_tail() -> None:
    stream = CappedStream(head_bytes=3, tail_bytes=4)

    assert [stream.add(b"abcde"), stream.take_tail()] == [b"abc", b"de"]
    assert stream.omitted_bytes == 0


def test_of_the_rest_only_the_end_is_kept() -> None:
    stream = CappedStream(head_bytes=3, tail_bytes=4)
    heads = [stream.add(piece) for piece in (b"ab", b"cd", b"ef", b"", b"ghij", b"k")]

    assert (b"".join(heads), stream.omitted_bytes, stream.take_tail()) == (b"abc", 4, b"hijk")


def test_a_piece_longer_than_the_tail_keeps_its_own_end() -> None:
    stream = CappedStream(head_bytes=1, tail_bytes=2)
    stream.add(b"a" + b"x" * 1000 + b"yz")

    assert (stream.omitted_bytes, stream.take_tail()) == (1000, b"yz")


def test_a_tail_is_given_once() -> None:
    stream = CappedStream(head_bytes=1, tail_bytes=2)
    stream.add(b"abc")

    assert [stream.take_tail(), stream.take_tail()] == [b"bc", b""]


@pytest.mark.parametrize("seed", range(200))
def test_head_omission_and_tail_make_up_the_stream_however_it_comes_in(seed: int) -> None:
    rng = random.Random(seed)
    head_bytes, tail_bytes = rng.randint(0, 20), rng.randint(1, 20)
    data = rng.randbytes(rng.randint(0, 80))
    stream = CappedStream(head_bytes, tail_bytes)

    heads = [stream.add(piece) for piece in pieces_of(data, rng)]
    tail = stream.take_tail()

    rest = data[head_bytes:]
    assert b"".join(heads) == data[:head_bytes]
    assert tail == rest[-tail_bytes:]
    assert stream.omitted_bytes == max(0, len(rest) - tail_bytes)


@pytest.mark.parametrize("seed", range(50))
def test_the_tail_never_holds_more_than_it_may_on_the_way(seed: int) -> None:
    rng = random.Random(seed)
    stream = CappedStream(head_bytes=5, tail_bytes=7)
    taken = 0
    for piece in pieces_of(rng.randbytes(200), rng):
        taken += len(piece)
        stream.add(piece)
        kept = sum(map(len, stream._tail))
        assert kept <= 7
        assert kept + stream.omitted_bytes == max(0, taken - 5)
