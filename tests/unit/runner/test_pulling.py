"""What the daemon says of a pull, in whatever pieces it comes."""

from __future__ import annotations

import json

from dccf.runner.pulling import PullProgress

SAID = [
    {"status": "Pulling from library/x", "id": "1"},
    {"status": "Already exists", "progressDetail": {}, "id": "aa"},
    {"status": "Downloading", "progressDetail": {"current": 100, "total": 1000}, "id": "bb"},
    {"status": "Downloading", "progressDetail": {"current": 50, "total": 500}, "id": "cc"},
    {"status": "Downloading", "progressDetail": {"current": 400, "total": 1000}, "id": "bb"},
    {"status": "Download complete", "progressDetail": {}, "id": "cc"},
]


def test_the_layers_add_up_however_the_answer_is_cut() -> None:
    answer = b"".join(json.dumps(line).encode() + b"\r\n" for line in SAID)
    for size in (1, 7, 1000):
        progress = PullProgress()
        for start in range(0, len(answer), size):
            progress.feed(answer[start : start + size])
        assert (progress.done_bytes, progress.known_bytes, progress.error) == (900, 1500, "")


def test_the_last_line_s_error_counts_and_nonsense_does_not() -> None:
    progress = PullProgress()
    progress.feed(b'no json\n[]\n{"status": "Downloading", "progressDetail": {"current": "x"}, "id": "a"}\n')
    assert (progress.known_bytes, progress.error) == (0, "")

    progress.feed(b'{"errorDetail": {"message": "no"}, "error": "no"}\r\n')

    assert progress.error == "no"
