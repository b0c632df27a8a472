"""`GET /metrics`: what waits and runs, from PostgreSQL, and how requests fare, from this process."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator

from apiflask import APIBlueprint
from flask import Flask, Response, current_app, g, request
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from dccf import errors, metrics
from dccf.api.context import require_admin
from dccf.store import fleet, gauges, queues
from dccf.store.database import Database

log = logging.getLogger(__name__)

bp = APIBlueprint("metrics", __name__, tag="Metrics")

EXTENSION = "dccf-metrics"
#: What was read from PostgreSQL is told again for so long, however many ask.
FRESH_SECONDS = 5.0
#: Reads of the database take milliseconds; a request that waits for a job may take a minute.
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"})
#: Stands for all queues that no live worker listens on and nobody has paused: anybody may name one in a job.
OTHER_QUEUES = "(others)"


class StoreCollector(Collector):
    """Reads the gauges that are the same whichever API process is asked."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._read_at: float | None = None
        self._families: list[Metric] = []

    def collect(self) -> Iterator[Metric]:
        """Give the gauges, at most some seconds old; with PostgreSQL away only that it is."""
        with self._lock:
            if self._read_at is None or time.monotonic() - self._read_at > FRESH_SECONDS:
                self._families = self._read()
                self._read_at = time.monotonic()
            yield from self._families

    def describe(self) -> list[Metric]:
        """Name nothing: registering must not ask PostgreSQL."""
        return []

    def _read(self) -> list[Metric]:
        up = GaugeMetricFamily("dccf_database_up", "Whether PostgreSQL answered (1) or not (0).")
        try:
            with self._database.begin() as tx:
                slots, workers = fleet.count_slots(tx), fleet.get_workers(tx)
                controllers = fleet.count_live_controllers(tx)
                paused = queues.get_paused(tx)
                listened = {queue for worker in workers if worker.is_alive for queue in worker.queues}
                found = gauges.read(tx, {*listened, *paused})
        except errors.StoreUnavailable as error:
            log.warning("metrics without PostgreSQL: %s", error)
            up.add_metric([], 0)
            return [up]
        up.add_metric([], 1)
        return [up, *_queue_families(found, slots, set(paused)), *_fleet_families(workers, controllers)]


def _queue_families(
    found: dict[str, gauges.QueueGauges], slots: dict[str, int], paused: set[str]
) -> tuple[GaugeMetricFamily, ...]:
    jobs = GaugeMetricFamily(
        "dccf_jobs", f"Jobs that have not ended; waiting ones up to {gauges.MOST_COUNTED}.", labels=["queue", "state"]
    )
    oldest = GaugeMetricFamily(
        "dccf_queue_oldest_seconds", "How long the oldest waiting job might have started already.", labels=["queue"]
    )
    hints = GaugeMetricFamily("dccf_queue_hints", "Hints that are with the broker.", labels=["queue"])
    free = GaugeMetricFamily("dccf_queue_slots", "Slots of live workers that take jobs.", labels=["queue"])
    is_paused = GaugeMetricFamily("dccf_queue_paused", "Whether the queue is paused.", labels=["queue"])
    for queue, gauge in sorted(found.items()):
        name = queue or OTHER_QUEUES
        states = {"queued": gauge.queued, "building": 0, "running": 0, "collecting": 0, **dict(gauge.active)}
        for state, count in states.items():
            jobs.add_metric([name, state], count)
        oldest.add_metric([name], gauge.oldest_seconds)
        hints.add_metric([name], gauge.hinted)
        free.add_metric([name], slots.get(queue, 0))
        is_paused.add_metric([name], queue in paused)
    return jobs, oldest, hints, free, is_paused


def _fleet_families(workers: tuple[fleet.WorkerInfo, ...], controllers: int) -> tuple[GaugeMetricFamily, ...]:
    by_state = {"able": 0, "unable": 0, "silent": 0}
    for worker in workers:
        by_state["silent" if not worker.is_alive else "unable" if worker.message else "able"] += 1
    family = GaugeMetricFamily(
        "dccf_workers", "Workers: able to take jobs, alive but unable, or silent.", labels=["state"]
    )
    for state, count in by_state.items():
        family.add_metric([state], count)
    return family, GaugeMetricFamily("dccf_controllers", "Controllers that are alive.", value=controllers)


class Metrics:
    """The registry of one application, and what its requests are counted in."""

    def __init__(self, database: Database) -> None:
        self.registry: CollectorRegistry = metrics.make_registry()
        self.registry.register(StoreCollector(database))
        self.seconds = Histogram(
            "dccf_http_request_seconds",
            "Time until an answer began; streams go on after that.",
            ["method", "route"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.requests = Counter(
            "dccf_http_requests", "Requests answered.", ["method", "route", "status"], registry=self.registry
        )

    def note(self, response: Response) -> Response:
        """Count an answer, by the route and never by the path, which anybody can choose."""
        route = request.url_rule.rule if request.url_rule is not None else "(none)"
        method = request.method if request.method in _METHODS else "(other)"
        self.requests.labels(method, route, str(response.status_code)).inc()
        started = g.get("started")
        if started is not None:
            self.seconds.labels(method, route).observe(time.perf_counter() - started)
        return response


def register(app: Flask, database: Database) -> None:
    """Make an application count its requests, and tell them."""
    app.extensions[EXTENSION] = kept = Metrics(database)
    app.before_request(_start_clock)
    app.after_request(kept.note)
    app.register_blueprint(bp)


def registry_of(app: Flask) -> CollectorRegistry:
    """Give the registry of an application."""
    kept: Metrics = app.extensions[EXTENSION]
    return kept.registry


def _start_clock() -> None:
    g.started = time.perf_counter()


@bp.get("/metrics")
def get_metrics() -> Response:
    """Tell Prometheus what waits, what runs, and how requests fare; for administrators.

    `DCCF_METRICS_PORT` tells the same without a token, on a port of its own.
    """
    require_admin()
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return Response(encode(registry_of(current_app)), content_type=content_type)
