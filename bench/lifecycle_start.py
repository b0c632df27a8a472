"""The time from a submit to its claim, over real processes and a real broker; a part of bench/lifecycle."""

from __future__ import annotations

import os
import shutil
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import text

from dccf.local.kafka import KafkaCluster
from dccf.store.database import Database
from tests.processes import DccfProcess, wait_for

JOBS = 200


@contextmanager
def broker(folder: Path) -> Iterator[dict[str, str]]:
    """Run Kafka where there is Java, else use the file broker; give the settings."""
    if shutil.which("java"):
        cluster = KafkaCluster(folder / "kafka")
        cluster.start()
        try:
            yield {"DCCF_BROKER_URL": f"kafka://{cluster.bootstrap_servers}"}
        finally:
            cluster.stop()
        return
    for name in ("messages", "control"):
        (folder / name).mkdir()
    yield {"DCCF_BROKER_URL": "filesystem://localhost", "DCCF_BROKER_FOLDER": str(folder)}


def measure(database: Database, url: str, folder: Path) -> None:
    """Submit jobs one after the other to an idle worker with the fake runner, and print the waits."""
    with broker(folder) as settings:
        environment = {
            **settings,
            "DCCF_DATABASE_URL": url,
            "DCCF_STATE_FOLDER": str(folder),
            "DCCF_RUNNER": "fake",
            "DCCF_WORKER_SLOTS": "2",
        }
        processes = [DccfProcess([name], environment, folder / f"{name}.log") for name in ("controller", "worker")]
        try:
            os.environ.update(environment)
            from dccf.celery_app import app
            from dccf.tasks import run_dockerfile

            bundle = run_dockerfile.s(dockerfile="FROM busybox\n")
            wait_for("the worker", lambda: "ready" in processes[1].log_text(), 60)
            for _ in range(JOBS):
                result = bundle.delay()
                wait_for("a job", lambda one=result: one.ready(), 60)  # type: ignore[misc]
                time.sleep(0.02)
            app.database.close()
        finally:
            for process in processes:
                process.stop()
        with database.begin() as tx:
            query = (
                "SELECT extract(epoch FROM a.claimed_at - j.created_at) FROM job j JOIN attempt a ON a.job_id = j.id"
            )
            waits = sorted(float(value) * 1000 for value in tx.execute(text(query)).scalars())[:]
            tx.execute(text("TRUNCATE job CASCADE"))
        cuts = statistics.quantiles(waits, n=20)
        print(
            f"submit to claim over {settings['DCCF_BROKER_URL'].partition(':')[0]}, {len(waits)} jobs: "
            f"p50 {statistics.median(waits):.1f} ms, p95 {cuts[18]:.1f} ms"
        )
