"""Counts of what a worker's pool processes do, in memory that they share with its main process.

Prometheus asks the main process. Every process writes to a row of its own, so no two write one number;
a process that takes the place of a dead one counts on in its row.
"""

from __future__ import annotations

import contextlib
import mmap
import struct
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from dccf.lifecycle.endings import Ending
from dccf.models import Job, JobState, Reason
from dccf.worker.board import ENTRIES, Board

#: The main process's own row, behind those of the pool.
MAIN = ENTRIES
_Key: TypeAlias = "str | tuple[str, str]"
_NUMBER = struct.Struct("=Q")
_CLAIMS = ("taken", "not_to_be_had", "declined")
_ENDS: tuple[tuple[str, str], ...] = (
    ("succeeded", ""),
    ("cancelled", ""),
    ("handed_back", ""),
    *(("failed", reason.value) for reason in Reason),
)
_KEYS: tuple[_Key, ...] = (*_CLAIMS, *_ENDS, "artifacts", "artifact_bytes")
_PLACES: dict[_Key, int] = {key: place for place, key in enumerate(_KEYS)}


class Counts:
    """The row of one process."""

    def __init__(self, memory: mmap.mmap, entry: int, lock: AbstractContextManager[object]) -> None:
        self._memory = memory
        self._lock = lock
        self._start = entry * len(_PLACES) * _NUMBER.size

    def claimed(self, how: str) -> None:
        """Count a hint: its job was ``taken``, ``not_to_be_had``, or ``declined`` because the engine is away."""
        self._add(how, 1)

    def ended(self, ending: Ending, job: Job) -> None:
        """Count the end of an attempt; a cancel that was asked for stands whatever the container did."""
        outcome = "cancelled" if job.state is JobState.CANCELLED else ending.outcome
        reason = str(ending.reason) if outcome == "failed" and ending.reason else ""
        self._add((outcome, reason), 1)

    def stored(self, artifacts: int, size_bytes: int) -> None:
        """Count what an attempt left in /output."""
        self._add("artifacts", artifacts)
        self._add("artifact_bytes", size_bytes)

    def _add(self, key: _Key, amount: int) -> None:
        offset = self._start + _PLACES[key] * _NUMBER.size
        with self._lock:
            _NUMBER.pack_into(self._memory, offset, _NUMBER.unpack_from(self._memory, offset)[0] + amount)


class Tally:
    """The rows of all processes; made by the main process before its pool, inherited over fork."""

    def __init__(self, rows: int = ENTRIES + 1) -> None:
        self._rows = rows
        self._memory = mmap.mmap(-1, rows * len(_PLACES) * _NUMBER.size)
        # Of the threads of the main process; pool processes have one thread that counts, and never take it.
        self._lock = threading.Lock()

    def of(self, entry: int) -> Counts:
        """Give the row of one process, by its entry on the board."""
        return Counts(self._memory, entry, self._lock if entry == MAIN else contextlib.nullcontext())

    def total(self) -> dict[_Key, int]:
        """Add up all rows."""
        width = len(_PLACES)
        numbers = struct.unpack(f"={self._rows * width}Q", self._memory[:])
        return {key: sum(numbers[place::width]) for key, place in _PLACES.items()}


def lone_counts() -> Counts:
    """Give counts that nobody asks for."""
    return Tally(rows=1).of(0)


class TallyCollector(Collector):
    """Tells Prometheus the counts, and how busy the pool is."""

    def __init__(self, tally: Tally, board: Board) -> None:
        self._tally, self._board = tally, board

    def collect(self) -> Iterator[Metric]:
        """Give all families."""
        total = self._tally.total()
        claims = CounterMetricFamily("dccf_claims", "Hints taken up, by what became of them.", labels=["result"])
        for how in _CLAIMS:
            claims.add_metric([how], total[how])
        yield claims
        ends = CounterMetricFamily(
            "dccf_attempts_ended", "Attempts that ended, by their end.", labels=["outcome", "reason"]
        )
        for end in _ENDS:
            ends.add_metric(end, total[end])
        yield ends
        yield CounterMetricFamily("dccf_artifacts", "Files stored from /output.", value=total["artifacts"])
        yield CounterMetricFamily(
            "dccf_artifact_bytes", "Bytes stored from /output, before compression.", value=total["artifact_bytes"]
        )
        yield GaugeMetricFamily("dccf_worker_busy", "Slots that run an attempt.", value=len(self._board.running()))
