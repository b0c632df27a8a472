"""The Celery application that `bench.transport` measures; which broker it uses stands in the environment."""

import os
import time
from typing import Any

import redis
from celery import Celery

import dccf.transport

#: Environment variables: the broker's URL, that of the Redis for results and counts, and records read ahead.
BROKER, COUNTS, READ_AHEAD = "BENCH_BROKER", "BENCH_COUNTS", "BENCH_READ_AHEAD"

dccf.transport.register()
app: Any = Celery("bench", broker=os.environ.get(BROKER, "memory://"), backend=os.environ.get(COUNTS))
app.conf.update(task_acks_late=True)
if READ_AHEAD in os.environ:
    app.conf.broker_transport_options = {"read_ahead": int(os.environ[READ_AHEAD])}

_counts: Any = None


def counts() -> Any:
    """Return this process's connection to the counts."""
    global _counts  # noqa: PLW0603 - a pool process opens its own after the fork
    if _counts is None:
        _counts = redis.Redis.from_url(os.environ[COUNTS])
    return _counts


def start_delay(sent_at: float) -> float:
    """Return the seconds since it was sent."""
    return time.time() - sent_at


def step(seconds: float) -> None:
    """Take a while, and note when the first and the last of all began and ended."""
    began = time.time()
    if seconds:
        time.sleep(seconds)
    if counts().incr("done") == 1:
        counts().set("first", began)
    counts().set("last", time.time())


app.task(start_delay, name="start_delay")
app.task(step, name="step", ignore_result=True)
