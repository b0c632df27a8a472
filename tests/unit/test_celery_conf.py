"""Celery's configuration does what DCCF stands on."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
from celery.app import backends

from dccf.celery_app import DccfCelery, conf, messages
from dccf.celery_app.backend import JobBackend
from dccf.config import Settings
from dccf.lifecycle.ids import new_job_id
from dccf.models import JobSpec
from dccf.store.outbox import Hint
from dccf.transport.records import SETTLE

SETTINGS = Settings(database_url="postgresql://nobody@127.0.0.1:1/none", broker_url="kafka://127.0.0.1:1")


def application(**changes: Any) -> DccfCelery:
    celery = DccfCelery("test")
    celery.__dict__["settings"] = SETTINGS.model_copy(update=changes)
    return celery


def test_a_worker_takes_one_hint_a_slot_and_acknowledges_it_late() -> None:
    found = application().conf

    assert found.task_acks_late
    assert found.task_reject_on_worker_lost
    assert found.worker_prefetch_multiplier == 1
    assert found.broker_transport_options["read_ahead"] == 0


def test_results_of_jobs_come_from_our_backend() -> None:
    celery = application()

    assert backends.by_url(celery.conf.result_backend, celery.loader)[0] is JobBackend


def test_events_are_on_for_flower() -> None:
    found = application().conf

    assert found.worker_send_task_events
    assert found.task_send_sent_event


def test_no_jobs_own_limit_reaches_celerys() -> None:
    fields = JobSpec.model_fields
    longest = sum(
        next(rule.le for rule in fields[name].metadata if hasattr(rule, "le"))
        for name in ("timeout_seconds", "build_timeout_seconds")
    )

    assert application().conf.task_time_limit > longest + SETTINGS.pull_timeout_seconds
    assert application().conf.task_soft_time_limit is None


def test_nothing_is_unpickled() -> None:
    assert list(application().conf.accept_content) == ["json"]


def test_a_hint_is_settled_on_delivery_and_what_others_send_is_not() -> None:
    celery = application(broker_url="memory://")
    job_id, spec = new_job_id(), JobSpec()
    text = messages.for_job(celery, job_id, "ann", spec)
    with celery.connection_for_write() as connection, celery.amqp.Producer(connection) as producer:
        messages.publish(celery, producer, Hint(job_id, "default", text, 0))
        message = connection.default_channel.basic_get("default")

    assert message.headers[SETTLE] == "delivery"
    assert application().conf.broker_transport_options["settle"] == "ack"


def test_celerys_own_commands_get_the_same_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCCF_DATABASE_URL", SETTINGS.database_url)
    monkeypatch.setenv("DCCF_BROKER_URL", SETTINGS.broker_url)
    handed_out = runpy.run_path(str(Path(__file__).parents[2] / "celeryconfig.py"))

    wanted = conf.build(SETTINGS)
    assert {name: handed_out.get(name) for name in wanted} == wanted
