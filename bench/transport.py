"""This transport beside RabbitMQ and Redis, interleaved in one run: start latency, drain, publish, memory, fairness.

    scripts/bench transport [rounds]

Starts all three brokers itself; needs Debian's rabbitmq-server and redis-server, Java and Maven, and a quiet machine.
Prints both tables, and writes them into docs/transport.md and the picture into docs/bench-transport.svg.
"""

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench import peers, picture
from bench.transport_app import BROKER, COUNTS, READ_AHEAD, app, counts
from dccf.local.kafka import KafkaCluster

TASKS = 3000
STARTS = 200
#: Queues and workers of each drain; every worker has two slots and consumes every queue.
SHAPES = ((1, 1), (3, 1), (1, 3), (3, 3))
#: One task in ten is long; the same order in every round.
MIXED = 300
SHORT_SECONDS, LONG_SECONDS = 0.002, 0.5
_DOCS = Path(__file__).parent.parent / "docs"
PICTURE, MANUAL = _DOCS / "bench-transport.svg", _DOCS / "transport.md"
#: What stands between these lines of the manual is written here.
BEGINS, ENDS = "<!-- scripts/bench transport: from here -->", "<!-- scripts/bench transport: to here -->"


@contextmanager
def worker(queues: list[str], *, slots: int = 2, prefetch: int = 4) -> Iterator[subprocess.Popen[bytes]]:
    """Run a Celery worker."""
    command = [sys.executable, "-m", "celery", "-A", "bench.transport_app", "worker", "-l", "ERROR", "-Q"]
    options = ["-c", str(slots), "--prefetch-multiplier", str(prefetch), "-n", f"{os.urandom(4).hex()}@bench"]
    quiet = subprocess.DEVNULL
    with subprocess.Popen([*command, ",".join(queues), *options], stdout=quiet, stderr=quiet) as process:
        try:
            yield process
        finally:
            process.terminate()


def starts() -> dict[str, float]:
    """Measure how long an idle worker takes to start a task, and what its main process weighs."""
    queue = new_queues(1)[0]
    send = app.signature("start_delay", queue=queue)
    with worker([queue]) as process:
        for _ in range(30):
            send.clone((time.time(),)).delay().get(timeout=60)
        delays = []
        for _ in range(STARTS):
            delays.append(send.clone((time.time(),)).delay().get(timeout=20) * 1000)
            time.sleep(0.02)
        pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    cuts = statistics.quantiles(delays, n=100)
    return {
        "start p50 ms": cuts[49],
        "start p95 ms": cuts[94],
        "start p99 ms": cuts[98],
        "worker MB": pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
    }


def drain(seconds: list[float], *, queues: int, workers: int, **options: int) -> tuple[float, float]:
    """Fill queues and let workers at them; return tasks published a second, and seconds from first start to last end.

    The workers wait on a queue of their own until all of them answer: one that is still starting would leave its
    share to the others.
    """
    counts().delete("done", "first", "last")
    names = new_queues(queues)
    with ExitStack() as stack:
        for _ in range(workers):
            stack.enter_context(worker(new_queues(1), **options))
        deadline = time.time() + 180
        while len(app.control.ping(timeout=1, limit=workers)) < workers:
            if time.time() > deadline:
                raise TimeoutError("the workers did not answer")
        began = time.time()
        for index, each in enumerate(seconds):
            app.send_task("step", (each,), queue=names[index % queues])
        published = len(seconds) / (time.time() - began)
        for name in names:
            app.control.add_consumer(name)
        while int(counts().get("done") or 0) < len(seconds):
            if time.time() > deadline:
                raise TimeoutError(f"{counts().get('done')} of {len(seconds)} tasks ran")
            time.sleep(0.02)
    return published, float(counts().get("last")) - float(counts().get("first"))


def new_queues(count: int) -> list[str]:
    """Return names that no other measurement has used."""
    return [f"bench-{os.urandom(4).hex()}" for _ in range(count)]


def measure() -> dict[str, float]:
    """Return the figures of the broker in the environment."""
    found = starts()
    for queues, workers in SHAPES:
        published, seconds = drain([0.0] * TASKS, queues=queues, workers=workers)
        found.setdefault("published/s", published)
        found[f"drained/s, {queues} queues, {workers} workers"] = TASKS / seconds
    return found


def measure_mixed() -> dict[str, float]:
    """Return how long three workers with one slot each take for a queue of long and short tasks."""
    lengths = [LONG_SECONDS] * (MIXED // 10) + [SHORT_SECONDS] * (MIXED - MIXED // 10)
    random.Random(1).shuffle(lengths)
    _, seconds = drain(lengths, queues=1, workers=3, slots=1, prefetch=1)
    return {"seconds": seconds, "times the least possible": seconds / (sum(lengths) / 3)}


def ask(mode: str, **variables: str) -> dict[str, float]:
    """Measure in a process of its own."""
    command = [sys.executable, "-m", "bench.transport", mode]
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, check=True)
    answer: dict[str, float] = json.loads(done.stdout)
    return answer


def medians(rows: list[dict[str, float]]) -> dict[str, float]:
    """Return the median of every figure."""
    return {label: statistics.median(row[label] for row in rows) for label in rows[0]}


def main() -> None:
    """Measure the three in turn and print medians and ratios."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    found: dict[str, list[dict[str, float]]] = {}
    mixed: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        folder = Path(scratch)
        store = stack.enter_context(peers.redis(folder / "redis"))
        # Java's own choice: what is measured is a broker that has run for a while.
        cluster = stack.enter_context(KafkaCluster(folder / "kafka", java_options=()))
        kafka = f"kafka://{cluster.bootstrap_servers}/bench"
        rabbit = stack.enter_context(peers.rabbitmq(folder / "rabbitmq"))
        brokers = {"RabbitMQ": rabbit, "Redis": f"{store}8", "Kafka": kafka}
        fairness = {
            "Kafka, adaptive read-ahead": {BROKER: kafka},
            "Kafka, no read-ahead": {BROKER: kafka, READ_AHEAD: "0"},
            "RabbitMQ": {BROKER: rabbit},
        }
        # A Java broker that has just started publishes at half its speed: one round warms all of them up.
        for turn in range(rounds + 1):
            for name, url in brokers.items():
                print(f"round {turn} of {rounds}: {name}", file=sys.stderr, flush=True)
                figures = ask("--one", **{BROKER: url, COUNTS: f"{store}9"})
                if turn > 0:
                    found.setdefault(name, []).append(figures)
            for name, variables in fairness.items():
                seconds = ask("--mixed", **{**variables, COUNTS: f"{store}9"})
                if turn > 0:
                    mixed.setdefault(name, []).append(seconds)
    report(
        rounds,
        {name: medians(rows) for name, rows in found.items()},
        {name: medians(rows) for name, rows in mixed.items()},
    )


def report(rounds: int, found: dict[str, dict[str, float]], mixed: dict[str, dict[str, float]]) -> None:
    """Print both tables as Markdown, put them into the manual, and draw the first."""
    rabbit, redis, kafka = found["RabbitMQ"], found["Redis"], found["Kafka"]
    lines = [f"Rounds after one to warm up: {rounds}; medians. {time.strftime('%Y-%m-%d')}.", ""]
    lines += ["| | RabbitMQ | Redis | Kafka | Kafka / RabbitMQ | Kafka / Redis |", "|---|---:|---:|---:|---:|---:|"]
    for label in kafka:
        values = f"{rabbit[label]:,.1f} | {redis[label]:,.1f} | {kafka[label]:,.1f}"
        lines.append(
            f"| {label} | {values} | {kafka[label] / rabbit[label]:.2f} | {kafka[label] / redis[label]:.2f} |"
        )
    lines += ["", f"| {MIXED} tasks, one in ten of {LONG_SECONDS} s | seconds | times the least possible |"]
    lines.append("|---|---:|---:|")
    for name, values_of in mixed.items():
        lines.append(f"| {name} | {values_of['seconds']:.2f} | {values_of['times the least possible']:.2f} |")
    print("\n".join(lines))
    head, rest = MANUAL.read_text().split(BEGINS)
    MANUAL.write_text("\n".join([f"{head}{BEGINS}", "", *lines, "", f"{ENDS}{rest.split(ENDS)[1]}"]))
    PICTURE.write_text(picture.bars("Celery on three brokers, side by side", found))


if __name__ == "__main__":
    if "--one" in sys.argv:
        print(json.dumps(measure()))
    elif "--mixed" in sys.argv:
        print(json.dumps(measure_mixed()))
    else:
        main()
