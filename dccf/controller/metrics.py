"""What a controller tells Prometheus: its sweeps, and what it ended."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from dccf import metrics
from dccf.models import Job

#: A sweep reads a few rows of an index: milliseconds, unless something is wrong.
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)


class ControllerMetrics:
    """The figures of one controller."""

    def __init__(self) -> None:
        self.registry = metrics.make_registry()
        self._sweep_seconds = Histogram(
            "dccf_sweep_seconds",
            "How long each run of a sweep took.",
            ["sweep"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._sweep_rows = Counter(
            "dccf_sweep_rows",
            "Things that a sweep did: hints, leases, jobs, contents.",
            ["sweep"],
            registry=self.registry,
        )
        self._sweep_failures = Counter(
            "dccf_sweep_failures", "Runs of a sweep that failed.", ["sweep"], registry=self.registry
        )
        self._last_round = Gauge(
            "dccf_controller_last_round_timestamp_seconds",
            "When all sweeps of a loop that were due had last been done, in Unix time.",
            ["loop"],
            registry=self.registry,
        )
        self._expired = Counter("dccf_leases_expired", "Leases that ran out.", registry=self.registry)
        self._ended = Counter(
            "dccf_attempts_ended", "Attempts that ended, by their end.", ["outcome", "reason"], registry=self.registry
        )

    def note_sweep(self, name: str, *, rows: int, failed: bool, seconds: float) -> None:
        """Note one run of a sweep."""
        self._sweep_seconds.labels(name).observe(seconds)
        self._sweep_rows.labels(name).inc(rows)
        self._sweep_failures.labels(name).inc(failed)

    def note_round(self, loop: str) -> None:
        """Note that all that was due in a loop is done."""
        self._last_round.labels(loop).set_to_current_time()

    def note_expired(self, taken: list[Job]) -> None:
        """Note attempts whose worker fell silent."""
        self._expired.inc(len(taken))
        for job in taken:
            outcome = "cancelled" if job.cancel_requested else "failed"
            reason = "" if job.cancel_requested else "worker_lost"
            self._ended.labels(outcome, reason).inc()
