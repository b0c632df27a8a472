"""One sweep: when it is due, what it did, what it took."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from dccf import errors
from dccf.administration import SweepStats
from dccf.controller.metrics import ControllerMetrics

log = logging.getLogger(__name__)


@dataclass
class Sweep:
    """Something that is done again and again; ``do`` gives the number of things that it did."""

    name: str
    do: Callable[[], int]
    metrics: ControllerMetrics
    #: Pause between two runs; 0 means in each round of its loop.
    period_seconds: float = 0.0

    def __post_init__(self) -> None:
        self._next = 0.0
        self.stats = SweepStats()

    def run_when_due(self) -> None:
        """Run if it is time. A fault of its own is logged and counted, and keeps no other sweep from running.

        Raises:
            StoreUnavailable: PostgreSQL is away.
        """
        started = time.monotonic()
        if started < self._next:
            return
        done = failures = 0
        try:
            done = self.do()
        except errors.StoreUnavailable:
            raise
        except Exception:  # one sweep that cannot go on must not stop the others, on which all jobs wait
            failures = 1
            log.exception("the sweep %r failed", self.name)
        took = time.monotonic() - started
        self.metrics.note_sweep(self.name, rows=done, failed=bool(failures), seconds=took)
        took_ms = round(took * 1000, 1)
        self._next = started + self.period_seconds
        self.stats = SweepStats(
            runs=self.stats.runs + 1,
            done=self.stats.done + done,
            failures=self.stats.failures + failures,
            last_ms=took_ms,
            worst_ms=max(took_ms, self.stats.worst_ms),
        )
