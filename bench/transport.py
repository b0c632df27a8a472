"""This transport beside RabbitMQ and Redis, interleaved in one run: start latency, drain, publish, memory.

    python bench/transport.py [rounds]

Needs `rabbitmq-server` on 127.0.0.1:5672 and `redis-server` on 127.0.0.1:6379, both empty, the Python package
`redis`, and a quiet machine. Kafka is started here.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from celery import Celery

import dccf.transport
from dccf.local.kafka import KafkaCluster

TASKS = 1500
STARTS = 100

dccf.transport.register()
app: Any = Celery("transport", broker=os.environ.get("BENCH_BROKER", "memory://"), backend="redis://127.0.0.1:6379/9")
app.conf.update(
    task_default_queue=os.environ.get("BENCH_QUEUE", "bench"), task_acks_late=True, worker_prefetch_multiplier=4
)


def start_delay(sent_at: float) -> float:
    return time.time() - sent_at


def nothing() -> None:
    return


def now() -> float:
    return time.time()


app.task(start_delay, name="start_delay")
app.task(nothing, name="nothing", ignore_result=True)
app.task(now, name="now")


def measure() -> None:
    """Print the figures of one broker; runs in a process of its own."""
    worker = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "transport", "worker", "-c", "2", "-l", "ERROR", "--without-mingle"],
        cwd=Path(__file__).parent,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(20):
            app.send_task("start_delay", (time.time(),)).get(timeout=60)
        delays = []
        for _ in range(STARTS):
            delays.append(app.send_task("start_delay", (time.time(),)).get(timeout=20) * 1000)
            time.sleep(0.02)
        memory = int(Path(f"/proc/{worker.pid}/statm").read_text().split()[1]) * 4096 / 1e6
    finally:
        worker.terminate()
        worker.wait()
    first = app.send_task("now")
    began = time.time()
    for _ in range(TASKS):
        app.send_task("nothing")
    published = TASKS / (time.time() - began)
    last = app.send_task("now")
    worker = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "transport", "worker", "-c", "2", "-l", "ERROR", "--without-mingle"],
        cwd=Path(__file__).parent,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        drained = TASKS / (last.get(timeout=120) - first.get(timeout=60))
    finally:
        worker.terminate()
        worker.wait()
    percentiles = statistics.quantiles(delays, n=100)
    print(percentiles[49], percentiles[94], percentiles[98], drained, published, memory)


def main() -> None:
    """Measure the three in turn and print medians and ratios."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    found: dict[str, list[list[float]]] = {}
    with tempfile.TemporaryDirectory() as scratch, KafkaCluster(Path(scratch)) as kafka:
        brokers = {
            "rabbitmq": "amqp://guest:guest@127.0.0.1:5672//",
            "redis": "redis://127.0.0.1:6379/8",
            "kafka": f"kafka://{kafka.bootstrap_servers}/bench",
        }
        for turn in range(rounds):
            for name, url in brokers.items():
                environment = os.environ | {"BENCH_BROKER": url, "BENCH_QUEUE": f"bench-{os.getpid()}-{turn}"}
                command = [sys.executable, __file__, "--one"]
                output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
                found.setdefault(name, []).append([float(value) for value in output.split()])
    labels = ["start p50 ms", "start p95 ms", "start p99 ms", "drained/s", "published/s", "memory MB"]
    medians = {
        name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in found.items()
    }
    print(f"{'':14}{'rabbitmq':>10}{'redis':>10}{'kafka':>10}{'/rabbitmq':>11}{'/redis':>9}")
    for index, label in enumerate(labels):
        rabbit, redis, kafka_value = (medians[name][index] for name in ("rabbitmq", "redis", "kafka"))
        print(
            f"{label:14}{rabbit:10.1f}{redis:10.1f}{kafka_value:10.1f}"
            f"{kafka_value / rabbit:11.2f}{kafka_value / redis:9.2f}"
        )


if __name__ == "__main__":
    measure() if "--one" in sys.argv else main()
