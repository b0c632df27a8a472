"""What a real worker and a real controller tell Prometheus; pool processes count, the main process answers."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable

import pytest
from celery.canvas import Signature
from prometheus_client.parser import text_string_to_metric_families

from dccf import errors
from tests.processes import DccfProcess, wait_for

pytestmark = pytest.mark.postgres

Samples = dict[tuple[str, tuple[str, ...]], float]


def scrape(port: int) -> Samples:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        body = answer.read().decode()
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(body)
        for sample in family.samples
    }


def test_a_worker_tells_claims_ends_and_bytes(
    worker: DccfProcess, metrics_ports: dict[str, int], scripted: Callable[..., Signature]
) -> None:
    wait_for("the worker", lambda: "ready" in worker.log_text())
    before = scrape(metrics_ports["worker"])
    scripted(output="a=four\nb=nine!").delay().get(timeout=60)
    with pytest.raises(errors.JobFailed):
        scripted(exit_code=3).delay().get(timeout=60)

    def grown() -> Samples:
        return {key: value - before.get(key, 0.0) for key, value in scrape(metrics_ports["worker"]).items()}

    wait_for("both ends", lambda: grown()["dccf_attempts_ended_total", ("failed", "exit_nonzero")] == 1)
    growth = grown()
    assert growth["dccf_attempts_ended_total", ("succeeded", "")] == 1
    assert growth["dccf_claims_total", ("taken",)] == 2
    assert growth["dccf_artifacts_total", ()] == 2
    assert growth["dccf_artifact_bytes_total", ()] == 9


def test_a_controller_tells_its_sweeps(controller: DccfProcess, metrics_ports: dict[str, int]) -> None:
    wait_for("the controller", lambda: "is ready" in controller.log_text())
    first = scrape(metrics_ports["controller"])
    for loop in ("hints", "leases", "clearing"):
        last_round = ("dccf_controller_last_round_timestamp_seconds", (loop,))
        before = first.get(last_round, 0.0)
        wait_for("another round", lambda: scrape(metrics_ports["controller"]).get(last_round, 0.0) > before)  # noqa: B023
    samples = scrape(metrics_ports["controller"])
    assert samples["dccf_sweep_seconds_count", ("leases",)] >= 1
    assert samples["dccf_sweep_failures_total", ("leases",)] == 0
    assert ("dccf_sweep_rows_total", ("hints",)) in samples
    assert ("dccf_leases_expired_total", ()) in samples
