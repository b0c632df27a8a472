"""What claims, sweeps and starts cost, on one PostgreSQL with many jobs in it.

    scripts/bench lifecycle [--queued 100000] [--finished 1000000] [--owners 200] [--no-start] [--plans]

Fills a database, then measures: claims and whole lives a second with 8 processes; the cost of every
sweep of the controller (the worst of some runs; 50 ms is the limit), with the plan of each of its
statements; and, with real processes over Kafka (the file broker where there is no Java), the time from
a submit to its claim on an idle worker.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, event, text

from bench import lifecycle_start
from dccf import config_values
from dccf.config import Settings
from dccf.controller import garbage, retention
from dccf.lifecycle import attempts, hints, leases, waiting
from dccf.lifecycle.attempts import Holder
from dccf.lifecycle.endings import Ending
from dccf.local import postgres
from dccf.models import JobState
from dccf.store import fleet, gauges, migrate
from dccf.store.database import Database

WORKERS = 8
SECONDS = 5.0
LIMIT_MS = 50.0
RUNS = 10

# Owners in 5 queues, nobody works for the last one; one queued job in ten starts later, one in ten has limits.
_FILL = """
INSERT INTO job (id, owner, queue, state, message, spec, bundle_id, inputs, celery_message, continuation_pending,
    max_attempts, run_after, hint_after, fence, created_at, finished_at, queue_deadline_at, deadline_at)
SELECT gen_random_uuid(), 'owner-' || number % :owners, 'queue-' || number % 5, :state, 'waits',
    jsonb_build_object('queue', 'queue-' || number % 5, 'labels', jsonb_build_object('n', (number % 50)::text)),
    :bundle, '{}', '{}', false, 3, at + later, CASE WHEN :state = 'queued' THEN at + later END,
    CASE WHEN :state = 'queued' THEN 0 ELSE 1 END, at, CASE WHEN :state = 'queued' THEN NULL ELSE at END,
    CASE WHEN :state = 'queued' AND number % 10 = 1 THEN now() + interval '1 day' END,
    CASE WHEN :state = 'queued' AND number % 10 = 2 THEN now() + interval '2 days' END
FROM generate_series(1, :count) number,
    LATERAL (SELECT now() - number * interval '1 second' AS at,
        CASE WHEN :state = 'queued' AND number % 10 = 0 THEN interval '300 days' ELSE interval '0' END AS later) times
"""


def fill(database: Database, queued: int, finished: int, owners: int) -> None:
    """Make the jobs, and workers for all queues but one."""
    bundle = UUID(int=1)
    with database.begin() as tx:
        tx.execute(text("SET LOCAL statement_timeout = 0"))
        tx.execute(
            text("INSERT INTO bundle (id, owner, spec, size, file_count) VALUES (:id, 'x', '{}', 0, 0)"),
            {"id": bundle},
        )
        for state, count in (("queued", queued), ("succeeded", finished)):
            tx.execute(text(_FILL), {"state": state, "count": count, "bundle": bundle, "owners": owners})
    beat(database)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SET statement_timeout = 0"))
        connection.execute(text("VACUUM ANALYZE"))


def beat(database: Database) -> None:
    """Let the workers live, 4 slots in each of 4 queues."""
    with database.begin() as tx:
        for number in range(4):
            fleet.beat_worker(
                tx,
                f"w{number}",
                f"w{number}/1",
                queues=[f"queue-{number}"],
                slots=4,
                engine="",
                version="",
                message="",
            )


def work(url: str, settings: Settings, job_ids: list[UUID], name: str, whole: bool, counts: Any) -> None:
    """Claim jobs one after the other for some seconds; with ``whole`` bring each to its end."""
    database = Database(url, pool_size=1)
    database.ping()
    done, deadline = 0, time.monotonic() + SECONDS
    for job_id in job_ids:
        claimed = attempts.claim(database, settings, job_id, Holder(name, f"{name}/1"))
        if claimed is not None and whole:
            attempts.advance(database, claimed[0], JobState.RUNNING, "runs")
            attempts.advance(database, claimed[0], JobState.COLLECTING, "collects")
            attempts.finish(database, settings, claimed[0], Ending(JobState.SUCCEEDED, "ended"))
        done += claimed is not None
        if time.monotonic() > deadline:
            break
    counts.put(done)
    database.close()


def measure_claims(database: Database, settings: Settings, *, whole: bool) -> None:
    """Claim with several processes at once."""
    with database.begin() as tx:
        rows = tx.execute(text("SELECT id FROM job WHERE state = 'queued' AND run_after <= now() LIMIT 40000"))
        job_ids = list(rows.scalars())
    counts: Any = multiprocessing.Queue()
    processes = [
        multiprocessing.Process(
            target=work, args=(database.url, settings, job_ids[place::WORKERS], f"claimer{place}", whole, counts)
        )
        for place in range(WORKERS)
    ]
    started = time.monotonic()
    for process in processes:
        process.start()
    total = sum(counts.get() for _ in processes)
    for process in processes:
        process.join()
    what = "whole lives (claim, run, collect, end)" if whole else "claims"
    print(f"{total / (time.monotonic() - started):.0f} {what}/s with {WORKERS} processes")


@contextmanager
def recorded(engine: Engine) -> Iterator[list[tuple[str, Any]]]:
    """Collect the statements that are executed."""
    statements: list[tuple[str, Any]] = []

    def note(*given: Any) -> None:
        statements.append((given[2], given[3]))

    event.listen(engine, "before_cursor_execute", note)
    yield statements
    event.remove(engine, "before_cursor_execute", note)


def show_plans(database: Database, statements: list[tuple[str, Any]]) -> bool:
    """Print how PostgreSQL executes statements; tell whether none of them reads the job table from end to end."""
    is_bounded = True
    for statement, parameters in statements:
        if statement.split(None, 1)[0].upper() not in {"SELECT", "WITH", "UPDATE", "DELETE"}:
            continue
        with database.engine.connect() as connection:
            plan = connection.exec_driver_sql(
                f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, BUFFERS OFF) {statement}", parameters
            )
            lines = list(plan.scalars())
            connection.rollback()
        is_bounded = is_bounded and not any("Seq Scan on job" in line for line in lines)
        print("    " + " ".join(statement.split())[:110])
        print("\n".join(f"      | {line}" for line in lines))
    return is_bounded


def measure_sweeps(database: Database, settings: Settings, *, with_plans: bool) -> bool:
    """Time every sweep; tell whether each stays within the limit."""
    sweeps: dict[str, Callable[[], object]] = {
        "expired leases": lambda: leases.expire(database, settings),
        "time limits": lambda: leases.fail_overdue(database),
        "hints, some to send": lambda: hints.take_due(database, settings),
        "hints, queues full": lambda: hints.take_due(database, settings),
        "why jobs wait, 100 to tell": lambda: waiting.explain(database, settings),
        "retention, 100 jobs to go": retention.RetentionWalk(database, settings).step,
        "unused contents": lambda: garbage.sweep_blobs(database),
        "GET /metrics, 5 queues": lambda: read_gauges(database),
    }
    is_fast = True
    for name, sweep in sweeps.items():
        times = []
        for _ in range(RUNS):
            if name == "hints, some to send":
                forget_hints(database)
            started = time.perf_counter()
            sweep()
            times.append((time.perf_counter() - started) * 1000)
        is_fast = is_fast and statistics.median(times) < LIMIT_MS
        print(f"{name:<28} median {statistics.median(times):6.1f} ms, worst {max(times):6.1f} ms")
        if with_plans:
            if name == "hints, some to send":
                forget_hints(database)
            with recorded(database.engine) as statements:
                sweep()
            if name == "hints, some to send":
                forget_hints(database)
            is_fast = show_plans(database, statements) and is_fast
    return is_fast


def read_gauges(database: Database) -> None:
    """Read what the API tells Prometheus."""
    with database.begin() as tx:
        gauges.read(tx, {f"queue-{number}" for number in range(5)})


def forget_hints(database: Database) -> None:
    """Make room in all queues again."""
    with database.begin() as tx:
        tx.execute(text("UPDATE job SET hints = 0, hint_after = created_at WHERE state = 'queued' AND hints > 0"))


def main() -> int:
    """Measure on a PostgreSQL of our own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queued", type=int, default=100_000)
    parser.add_argument("--finished", type=int, default=1_000_000)
    parser.add_argument("--owners", type=int, default=200)
    parser.add_argument("--no-start", action="store_true", help="leave out the starts over a broker")
    parser.add_argument("--plans", action="store_true", help="show the plans of all statements")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="dccf-bench-"))
    folder.chmod(0o755)
    try:
        with postgres.running(folder / "pg") as plain_url:
            database = Database(config_values.normalise_database_url(plain_url))
            migrate.upgrade(database)
            settings = Settings(database_url=plain_url, broker_url="memory://", retention="jobs=0.1d")
            if not given.no_start:
                lifecycle_start.measure(database, plain_url, folder)
            started = time.monotonic()
            fill(database, given.queued, given.finished, given.owners)
            print(
                f"{given.queued} queued and {given.finished} ended jobs of {given.owners} owners "
                f"({time.monotonic() - started:.0f} s)"
            )
            is_fast = measure_sweeps(database, settings, with_plans=given.plans)
            measure_claims(database, settings, whole=False)
            measure_claims(database, settings, whole=True)
            database.close()
            return 0 if is_fast else 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
