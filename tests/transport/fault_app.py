"""The application that the worker processes of the fault tests run. Each task notes itself in a file."""

import os
import time
from pathlib import Path
from typing import Any

from celery import Celery

import dccf.transport

dccf.transport.register()

app: Any = Celery("fault_app", broker=os.environ["FAULT_BROKER"], set_as_current=False)
app.conf.update(
    task_default_queue=os.environ["FAULT_QUEUE"],
    task_acks_late=True,
    task_ignore_result=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    broker_transport_options={"lock_duration_ms": 15_000},
)


def note(number: int, seconds: float) -> None:
    """Write that the task started, work, and write that it ended."""
    write(f"start {number} {os.getpid()}")
    time.sleep(seconds)
    write(f"end {number} {os.getpid()}")


def write(line: str) -> None:
    """Append one line; appends of this size are never torn."""
    with Path(os.environ["FAULT_FILE"]).open("a", encoding="utf-8") as notes:
        notes.write(line + "\n")


app.task(note, name="note")
