"""Flower's tasks page for DCCF: what a task's job is and how it stands, in place of its arguments."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from flower.views import tasks as flower_tasks

from dccf import errors
from dccf.celery_app import DccfCelery, request
from dccf.celery_app.conf import TASK_NAME
from dccf.lifecycle.ids import parse_job_id
from dccf.models import Job
from dccf.store import jobs

COLUMNS = "name,uuid,state,kwargs,result,received,started,runtime,worker"
#: PostgreSQL is not asked again for this long after it did not answer: each row of a page would wait for it.
_AWAY_SECONDS = 10.0


def formatter(app: DccfCelery) -> Callable[[Any], Any]:
    """Make the function that Flower calls for each task before it shows it."""
    away_until = 0.0

    def format_task(task: Any) -> Any:
        nonlocal away_until
        if task.name != TASK_NAME:
            return task
        # A message that somebody sent by the task's name carries environment and files, which may hold secrets.
        task.args, task.kwargs = "()", request.HIDDEN
        if time.monotonic() < away_until:
            return task
        try:
            with app.database.begin() as tx:
                job = jobs.get(tx, parse_job_id(task.uuid))
        except errors.StoreUnavailable:
            away_until = time.monotonic() + _AWAY_SECONDS
        except errors.InvalidRequest:  # not DCCF's: somebody gave the task an id that no job can have
            return task
        else:
            task.kwargs = describe(job) if job else task.kwargs
        return task

    return format_task


def describe(job: Job) -> str:
    """Say in one line how a job stands and what it is: state, reason, queue, owner, labels."""
    parts = [f"{job.state}: {job.reason}" if job.reason else str(job.state), f"owner={job.owner}"]
    parts += [f"{key}={value}" for key, value in sorted(job.spec.labels.items())]
    return ", ".join(parts)


def install() -> None:
    """Call the column by what it shows."""
    flower_tasks.TASK_COLUMNS["kwargs"] = "Job"
