"""What comes from the daemon as bytes is taken apart whatever the pieces: logs, traces, archives, contexts."""

from __future__ import annotations

import io
import struct
import tarfile
from collections.abc import Iterator

import pytest

from dccf.errors import AttemptFailed, AttemptStopped, EngineUnavailable
from dccf.models import Reason, StopCause, Stream
from dccf.runner import bktrace
from dccf.runner.base import ContextFile
from dccf.runner.collect import OutputLimits, files_of, safe_path
from dccf.runner.context import IgnoreRules, read_whole, tar_stream
from dccf.runner.logs import FrameDecoder
from tests.runner_kit import Stop

LIMITS = OutputLimits(total_bytes=1000, file_bytes=600, files=3)


def frame(number: int, data: bytes) -> bytes:
    return struct.pack(">BxxxL", number, len(data)) + data


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 100])
def test_log_frames_are_put_together_from_pieces_of_any_size(size: int) -> None:
    sent = frame(1, b"out") + frame(2, b"error") + frame(1, b"") + frame(7, b"unknown") + frame(1, b"put")
    decoder = FrameDecoder()

    pieces = [piece for at in range(0, len(sent), size) for piece in decoder.feed(sent[at : at + size])]

    assert b"".join(data for stream, data in pieces if stream is Stream.STDOUT) == b"output"
    assert b"".join(data for stream, data in pieces if stream is Stream.STDERR) == b"error"


def varint(value: int) -> bytes:
    encoded = b""
    while value > 0x7F:
        encoded += bytes([value & 0x7F | 0x80])
        value >>= 7
    return encoded + bytes([value])


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def test_a_trace_holds_steps_and_logs() -> None:
    vertex = field(1, b"sha256:a") + field(2, b"sha256:input") + field(3, b"[1/2] RUN x") + field(4, 1)
    vertex += field(5, b"") + field(6, b"") + field(7, b"why")
    log = field(1, b"sha256:a") + field(3, 2) + field(4, b"x" * 300)

    events = list(bktrace.decode(field(1, vertex) + field(2, b"status") + field(3, log)))

    assert [
        bktrace.Vertex("sha256:a", "[1/2] RUN x", is_cached=True, is_started=True, is_completed=True, error="why"),
        bktrace.VertexLog("sha256:a", is_stderr=True, data=b"x" * 300),
    ] == events


@pytest.mark.parametrize("message", [b"\x0a\x05abc", b"\xff", b"\x0b", b"\xff" * 20])
def test_what_is_no_trace_is_an_error(message: bytes) -> None:
    with pytest.raises(bktrace.TraceError):
        list(bktrace.decode(message))


def test_a_trace_may_have_fields_of_fixed_size() -> None:
    assert list(bktrace.decode(b"\x09" + bytes(8) + b"\x0d" + bytes(4))) == []


def archive(*members: tuple[str, bytes | None, int]) -> io.BytesIO:
    """Pack members (name, content or None for a folder, mode) below ``output``."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, data, mode in [("output/", None, 0o777), *members]:
            member = tarfile.TarInfo(name)
            member.mode, member.type = mode, tarfile.DIRTYPE if data is None else tarfile.REGTYPE
            member.size = len(data or b"")
            tar.addfile(member, io.BytesIO(data or b""))
    packed.seek(0)
    return packed


def taken(packed: io.BytesIO, limits: OutputLimits = LIMITS) -> tuple[dict[str, bytes], str]:
    """Collect; give what came, and the sentence about what did not."""
    files: dict[str, bytes] = {}
    reason, sentence = None, ""
    try:
        for file in files_of(packed, limits):
            files[file.path] = b"".join(file.chunks)
    except AttemptFailed as failed:
        reason, sentence = failed.reason, failed.message
    assert reason in {None, Reason.OUTPUT_LIMIT_EXCEEDED}
    return files, sentence


def test_small_files_behind_a_large_one_are_kept() -> None:
    files, sentence = taken(
        archive(("output/a", b"a", 0o644), ("output/b", b"b" * 601, 0o644), ("output/c", b"c", 0o644))
    )

    assert files == {"a": b"a", "c": b"c"}
    assert sentence == "/output/b has 601 bytes; a file may have 600. What fits was kept."


def test_the_total_is_limited() -> None:
    files, sentence = taken(
        archive(("output/a", b"a" * 600, 0o644), ("output/b", b"b" * 401, 0o644), ("output/c", b"c" * 400, 0o644))
    )

    assert {"a", "c"} == set(files)
    assert sentence.startswith("/output holds more than 1000 bytes.")


def test_the_number_of_files_is_limited() -> None:
    files, sentence = taken(archive(*((f"output/{number}", b"", 0o644) for number in range(4))))

    assert len(files) == 3
    assert sentence.startswith("/output holds more than 3 files.")


def test_the_number_of_entries_is_limited() -> None:
    files, sentence = taken(
        archive(*((f"output/{number}/", None, 0o755) for number in range(20)), ("output/f", b"", 0o644))
    )

    assert files == {}
    assert sentence.startswith("/output holds more than 15 entries.")


def test_an_archive_that_breaks_off_is_the_daemons_fault() -> None:
    packed = archive(("output/a", b"a" * 500, 0o644)).getvalue()

    with pytest.raises(EngineUnavailable):
        taken(io.BytesIO(packed[:1200]))


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("output/a/b", "a/b"),
        ("output/", ""),
        ("output", ""),
        ("output/../../etc/passwd", "etc/passwd"),
        ("output//a/./b", "a/b"),
        ("output/a\nb", "a%0Ab"),
        ("output/\udcff", "%FF"),
        ("output/%FF", "%25FF"),
        ("output/100%", "100%"),
        ("output/\u202etxt", "%E2%80%AEtxt"),
        ("output/é 日", "é 日"),
    ],
)
def test_names_become_safe(name: str, path: str) -> None:
    assert path == safe_path(name)


def test_a_context_is_a_tar_archive() -> None:
    files = [
        ContextFile("d/" + "long" * 50 + "é", 3, 0o6755, iter([b"ab", b"", b"c"])),
        ContextFile("empty", 0, 0o600, []),
    ]

    packed = b"".join(tar_stream([("Dockerfile", b"FROM x")], files, Stop()))

    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        assert [(member.name, member.size, member.mode) for member in tar] == [
            ("Dockerfile", 6, 0o644),
            ("d/" + "long" * 50 + "é", 3, 0o755),
            ("empty", 0, 0o600),
        ]
        content = tar.extractfile("d/" + "long" * 50 + "é")
        assert content is not None
        assert content.read() == b"abc"


def test_a_context_stops_when_told_to() -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield bytes(512)

    stream = tar_stream([], [ContextFile("x", 1 << 60, 0o644, endless())], Stop(StopCause.LOST))

    with pytest.raises(AttemptStopped):
        list(stream)


def test_a_small_file_is_read_within_its_limit() -> None:
    assert read_whole(ContextFile("Dockerfile", 3, 0o644, [b"ab", b"c"]), 3) == b"abc"
    with pytest.raises(AttemptFailed, match="Dockerfile has 4 bytes; 3 are allowed"):
        read_whole(ContextFile("Dockerfile", 4, 0o644, [b"abcd"]), 3)


@pytest.mark.parametrize(
    ("rules", "path", "ignored"),
    [
        ("", "a", False),
        ("# a\n\n", "a", False),
        ("a", "a", True),
        ("a", "a/b/c", True),
        ("a", "b/a", False),
        ("/a/", "a/b", True),
        ("./a", "a", True),
        ("*.txt", "a.txt", True),
        ("*.txt", "d/a.txt", False),
        ("**/*.txt", "a.txt", True),
        ("**/*.txt", "d/e/a.txt", True),
        ("d/**", "d/e/f", True),
        ("d/**", "d", False),
        ("d/**/f", "d/f", True),
        ("a?c", "abc", True),
        ("a?c", "a/c", False),
        ("[a-c]x", "bx", True),
        ("[^a-c]x", "bx", False),
        ("a\\*", "a*", True),
        ("a\\*", "ab", False),
        ("a.b", "axb", False),
        ("*\n!keep", "keep", False),
        ("*\n!keep", "other", True),
        ("*\n!d/keep", "d/keep", False),
        ("!a\na", "a", True),
        ("*", "Dockerfile", False),
    ],
)
def test_ignore_rules(rules: str, path: str, ignored: bool) -> None:
    assert ignored == IgnoreRules(rules).ignores(path)
