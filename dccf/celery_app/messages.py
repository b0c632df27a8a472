"""Hints as Celery messages: made once, kept in the job's row, and sent from there, the same every time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from celery.app.amqp import task_message
from kombu.utils.json import dumps, loads

from dccf.celery_app.app import DccfCelery
from dccf.celery_app.conf import TASK_NAME
from dccf.models import JobSpec
from dccf.store.outbox import Hint
from dccf.transport.options import Settle
from dccf.transport.records import SETTLE


@dataclass(frozen=True)
class Message:
    """A Celery message as text, and whether anything follows the job (link, chain, chord)."""

    text: str
    has_continuation: bool


def for_job(app: DccfCelery, job_id: UUID, owner: str, spec: JobSpec) -> str:
    """Make the message of a job that nothing follows."""
    return make(app, job_id, owner, spec, {}).text


def make(app: DccfCelery, job_id: UUID, owner: str, spec: JobSpec, options: dict[str, Any]) -> Message:
    """Make the message of a job with Celery's own options (link, chain, chord, group, root, parent).

    It carries no arguments: the job's id is enough, and neither files nor environment travel.
    ``eta`` and ``expires`` stay out of it too: when a job may start stands in its row.
    """
    made = app.amqp.as_task_v2(
        str(job_id),
        TASK_NAME,
        (),
        {},
        argsrepr="()",
        kwargsrepr=_summary(owner, spec),
        create_sent_event=True,
        **options,
    )
    follows = made.body[2]
    has_continuation = any(follows.get(key) for key in ("callbacks", "errbacks", "chain", "chord"))
    return Message(dumps(made._asdict()), has_continuation)


def _summary(owner: str, spec: JobSpec) -> str:
    """Say in Flower what a job is, without its environment, which may hold secrets."""
    labels = " ".join(f"{key}={value}" for key, value in sorted(spec.labels.items()))
    return f"owner={owner} {labels}".strip()


def publish(app: DccfCelery, producer: Any, hint: Hint) -> None:
    """Send a hint through a producer of ``app``."""
    kept = loads(hint.celery_message)
    # Flower shall see a job as sent once, however often its hint is.
    sent_event = kept["sent_event"] if hint.sent_before == 0 else None
    # The hint is finished when a worker has it: the job's row says the rest, and no long job holds its queue up.
    # A message that somebody else sends by the task's name has no row yet, so it is held until its task ends.
    headers = kept["headers"] | {SETTLE: Settle.DELIVERY}
    message = task_message(headers, kept["properties"], tuple(kept["body"]), sent_event)
    app.amqp.send_task_message(producer, TASK_NAME, message, queue=hint.queue)
