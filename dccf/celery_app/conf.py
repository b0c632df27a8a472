"""Celery's configuration, each value with its reason. ``celeryconfig.py`` hands the same out."""

from __future__ import annotations

from typing import Any

from dccf.config import Settings
from dccf.fields import MAX_BUILD_SECONDS, MAX_RUN_SECONDS

#: Name of the task that stands for a job; clients of any language send it by this name.
TASK_NAME = "dccf.run_dockerfile"
#: Results of tasks that are no jobs, and saved groups, are kept this long.
RESULT_SECONDS = 7 * 86400.0
#: kombu's file transport looks into its folder this often; its default of 1 s would be felt.
_FILE_POLLING_SECONDS = 0.1
#: For pulling, collecting, and waiting for a PostgreSQL that is away.
_ROOM_SECONDS = 86400


def build(settings: Settings) -> dict[str, Any]:
    """Give Celery's configuration for our settings."""
    return {
        # Where the settings say; the same for the API, workers, Flower, and whoever calls run_dockerfile.
        "broker_url": settings.broker_url,
        "broker_transport_options": _transport_options(settings),
        # A worker that starts before its broker waits for it instead of dying.
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # The class path before the plus sign is how Celery finds a backend that is not its own.
        "result_backend": f"dccf.celery_app.backend:JobBackend+{settings.database_url}",
        # What a job gave is read from its row; other tasks' results go to Celery's own tables in the same database.
        # Nothing is ever unpickled: a message from the broker must not run code by being read.
        "result_serializer": "json",
        "task_serializer": "json",
        "accept_content": ["json"],
        # Results of other tasks go after this time; the controller sees to it, and no Celery beat is needed.
        "result_expires": RESULT_SECONDS,
        # The queue of jobs that name none, and the one that workers take from unless told otherwise.
        "task_default_queue": "default",
        # A hint is acknowledged when its attempt has ended: until then it fills its slot, so that a worker takes no
        # more than it runs. On Kafka its record is settled earlier, on delivery (dccf.celery_app.messages): one long
        # job must not hold its queue up. A job that was sent by the task's name is held until it has ended.
        "task_acks_late": True,
        # A lost pool process is no failure of the job: its lease decides, not Celery.
        "task_reject_on_worker_lost": True,
        # A last resort above every limit of a job's own, which the runner keeps. It is no nearer because Celery would
        # send what follows a failed job while DCCF tries the job again. No soft limit: it would interrupt anywhere.
        "task_time_limit": MAX_BUILD_SECONDS + MAX_RUN_SECONDS + _ROOM_SECONDS,
        # One reserved hint a slot: hints that wait in a busy worker could run on an idle one.
        "worker_prefetch_multiplier": 1,
        # The row says that a job has started; a second record of it would only be written to be overwritten.
        "task_track_started": False,
        # Flower lives on these events.
        "worker_send_task_events": True,
        "task_send_sent_event": True,
        # Attempts go on when the broker goes away: the truth is in PostgreSQL.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # The worker's own log lines are prefixed by whoever runs it; keep Celery's out of the root logger's way.
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        # Publishing is tried once here: what fails is sent later by the controller.
        "task_publish_retry": False,
        # All times are in UTC, as in PostgreSQL.
        "enable_utc": True,
        "timezone": "UTC",
    }


def _transport_options(settings: Settings) -> dict[str, Any]:
    if not settings.broker_url.startswith("filesystem://"):
        # Jobs are long, so no hint is fetched ahead of a free slot. Hints say themselves that they are finished on
        # delivery (`dccf.celery_app.messages`); what others send by the task's name is held until it has a row.
        return {"settle": "ack", "read_ahead": 0}
    messages = f"{settings.broker_folder}/messages"
    return {
        "data_folder_in": messages,
        "data_folder_out": messages,
        "control_folder": f"{settings.broker_folder}/control",
        "polling_interval": _FILE_POLLING_SECONDS,
    }
