"""`GET /metrics`: read by Prometheus' own parser; bounded labels, whatever people submit or ask for."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable

import pytest
from flask import Flask
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from dccf.api import metrics
from dccf.config import Settings
from dccf.lifecycle import attempts, waiting
from dccf.lifecycle.attempts import Holder
from dccf.lifecycle.ids import parse_job_id
from dccf.metrics import make_registry, serve
from dccf.store import fleet, gauges
from dccf.store.database import Database
from tests.acceptance.conftest import free_port
from tests.integration.api.conftest import Asker

pytestmark = pytest.mark.postgres

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def parse(body: str) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(body)
        for sample in family.samples
    }


@pytest.fixture
def ask(admin: Asker, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Samples]:
    monkeypatch.setattr(metrics, "FRESH_SECONDS", 0.0)

    def get() -> Samples:
        answer = admin.get("/metrics")
        assert answer.status_code == 200, answer.text
        return parse(answer.text)

    return get


def jobs_in(samples: Samples, queue: str, state: str) -> float:
    return samples["dccf_jobs", (("queue", queue), ("state", state))]


def of_queue(samples: Samples, name: str, queue: str) -> float:
    return samples[name, (("queue", queue),)]


def listen(database: Database, *queues: str, message: str = "") -> None:
    with database.begin() as tx:
        fleet.beat_worker(tx, "w", "w/1", queues=queues, slots=3, engine="fake", version="0", message=message)


def test_jobs_are_told_by_queue_and_state(
    ask: Callable[[], Samples], ada: Asker, database: Database, api_settings: Settings
) -> None:
    listen(database, "default")
    ids = [ada.submit_id() for _ in range(3)]
    assert attempts.claim(database, api_settings, parse_job_id(ids[0]), Holder("w", "w/1")) is not None
    with database.begin() as tx:
        tx.execute(text("UPDATE job SET run_after = now() - interval '100 s' WHERE state = 'queued'"))

    samples = ask()

    assert [jobs_in(samples, "default", state) for state in ("queued", "building", "running")] == [2, 1, 0]
    assert 100 <= of_queue(samples, "dccf_queue_oldest_seconds", "default") < 1000
    assert of_queue(samples, "dccf_queue_slots", "default") == 3
    assert samples["dccf_workers", (("state", "able"),)] == 1
    assert (samples["dccf_controllers", ()], samples["dccf_database_up", ()]) == (0, 1)


def test_a_job_that_may_not_start_yet_makes_nothing_old(ask: Callable[[], Samples], ada: Asker) -> None:
    ada.submit_id(spec={"run_after": "2999-01-01T00:00:00Z"})
    samples = ask()
    assert jobs_in(samples, metrics.OTHER_QUEUES, "queued") == 1
    assert of_queue(samples, "dccf_queue_oldest_seconds", metrics.OTHER_QUEUES) == 0


def test_queues_that_nobody_works_for_share_one_label(
    ask: Callable[[], Samples], ada: Asker, database: Database
) -> None:
    listen(database, "gpu", message="its daemon is away")
    waiting.pause_queue(database, "held", "admin")
    for queue in ("gpu", "held", "made-up-1", "made-up-2"):
        ada.submit_id(spec={"queue": queue})

    samples = ask()

    assert {labels[0][1] for name, labels in samples if name == "dccf_queue_slots"} == {
        "gpu",
        "held",
        metrics.OTHER_QUEUES,
    }
    assert jobs_in(samples, metrics.OTHER_QUEUES, "queued") == 2
    assert of_queue(samples, "dccf_queue_paused", "held") == 1
    assert of_queue(samples, "dccf_queue_slots", "gpu") == 0
    assert samples["dccf_workers", (("state", "unable"),)] == 1


def test_what_is_counted_is_bounded(
    ask: Callable[[], Samples], ada: Asker, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    listen(database, "default")
    monkeypatch.setattr(gauges, "MOST_COUNTED", 2)
    for _ in range(4):
        ada.submit_id()
    with database.begin() as tx:  # so that none counts as sent
        tx.execute(text("UPDATE job SET hints = 0"))
    assert jobs_in(ask(), "default", "queued") == 2


def test_requests_are_counted_by_route_not_by_path(ask: Callable[[], Samples], admin: Asker, nobody: Asker) -> None:
    for name in ("one", "two"):
        admin.get(f"/v1/jobs/{name}")
        admin.get(f"/nowhere/{name}")
    nobody.get("/v1/jobs")

    samples = ask()

    def requests(route: str, status: str) -> float:
        return samples["dccf_http_requests_total", (("method", "GET"), ("route", route), ("status", status))]

    assert requests("/v1/jobs/<job_id>", "422") == 2
    assert requests("(none)", "404") == 2
    assert requests("/v1/jobs", "401") == 1
    assert samples["dccf_http_request_seconds_count", (("method", "GET"), ("route", "(none)"))] == 2


def test_only_an_administrator_is_told(ada: Asker, nobody: Asker) -> None:
    assert nobody.get("/metrics").status_code == 401
    assert ada.get("/metrics").status_code == 403


def test_postgresql_is_asked_once_in_a_while(
    admin: Asker, ada: Asker, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "FRESH_SECONDS", 3600.0)
    listen(database, "default")
    before = parse(admin.get("/metrics").text)
    ada.submit_id()
    after = parse(admin.get("/metrics").text)
    assert jobs_in(before, "default", "queued") == jobs_in(after, "default", "queued") == 0


def test_without_postgresql_it_says_so(app: Flask) -> None:
    away = Database("postgresql+psycopg2://nobody@127.0.0.1:1/none")
    families = list(metrics.StoreCollector(away).collect())
    away.close()
    assert [(family.name, family.samples[0].value) for family in families] == [("dccf_database_up", 0)]


def test_a_port_of_its_own_asks_for_no_token(app: Flask) -> None:
    port = free_port()
    close = serve("127.0.0.1", port, metrics.registry_of(app))
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            samples = parse(answer.read().decode())
    finally:
        close()
    assert samples["dccf_database_up", ()] == 1
    assert samples["process_open_fds", ()] > 0


def test_a_port_that_is_taken_is_named() -> None:
    from dccf.errors import ConfigError

    port = free_port()
    close = serve("127.0.0.1", port, make_registry())
    try:
        with pytest.raises(ConfigError, match=f"port {port}.*DCCF_METRICS_PORT"):
            serve("127.0.0.1", port, make_registry())
    finally:
        close()
