"""The controller's loops: what their sweeps did is told, and a fault or a broker that hangs holds no other up."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dccf.celery_app import messages
from dccf.config import Settings
from dccf.controller import loop as controller_loop
from dccf.controller import schedules
from dccf.controller.loop import Controller
from dccf.controller.rounds import Loop
from dccf.controller.sweeps import Sweep
from dccf.lifecycle.attempts import Holder
from dccf.lifecycle.ids import new_job_id
from dccf.models import JobSpec
from dccf.store import fleet
from dccf.store.database import Database
from dccf.store.fleet import ControllerInfo
from tests.conftest import celery_of, hints_out, url_of
from tests.integration.lifecycle.conftest import GetJob, SubmitJob
from tests.integration.lifecycle.test_life import claimed
from tests.processes import wait_for

pytestmark = pytest.mark.postgres


def controller_of(database: Database, settings: Settings) -> Controller:
    return Controller(celery_of(settings, database), database, settings)


def do_rounds(controller: Controller) -> None:
    for loop in controller.loops:
        loop.do_round()


@contextmanager
def running(controller: Controller) -> Iterator[list[Exception]]:
    """Run a controller on a thread; give what it ended with, once it has."""
    died: list[Exception] = []

    def run() -> None:
        try:
            controller.run()
        except ZeroDivisionError as error:
            died.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield died
    finally:
        controller.stop()
        thread.join(60)
    assert not thread.is_alive()


def sweep_of(controller: Controller, name: str) -> Sweep:
    (found,) = [sweep for loop in controller.loops for sweep in loop.sweeps if sweep.name == name]
    return found


def loop_of(controller: Controller, name: str) -> Loop:
    (found,) = [loop for loop in controller.loops if loop.name == name]
    return found


def told(database: Database) -> ControllerInfo:
    with database.begin() as tx:
        (info,) = fleet.get_controllers(tx)
    return info


def test_a_controller_tells_what_each_of_its_sweeps_did_and_took(database: Database, settings: Settings) -> None:
    do_rounds(controller_of(database, settings))
    info = told(database)
    assert info.is_alive
    assert {"leases", "time limits", "schedules", "hints", "waiting", "retention", "contents"} <= info.sweeps.keys()
    assert (info.sweeps["hints"].runs, info.sweeps["hints"].failures) == (1, 0)
    assert info.sweeps["hints"].worst_ms > 0


def test_a_sweep_that_fails_is_counted_and_holds_no_other_up(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: object) -> int:
        raise ValueError("odd")

    monkeypatch.setattr(schedules, "fire", fail)
    do_rounds(controller_of(database, settings))
    sweeps = told(database).sweeps
    assert (sweeps["schedules"].failures, sweeps["waiting"].runs, sweeps["hints"].runs) == (1, 1, 1)


def test_a_lost_worker_is_noticed_in_time_while_the_broker_hangs(
    database: Database,
    settings: Settings,
    submit_job: SubmitJob,
    get_job: GetJob,
    me: Holder,
    silent_broker: socket.socket,
) -> None:
    # A gap in the sweeps of a third of a lease counts as an outage, which a busy machine makes for a short one.
    changes = {"broker_url": url_of(silent_broker), "lease_seconds": 6, "sweep_seconds": 0.1}
    hanging = settings.model_copy(update={**changes, "retry_backoff_seconds": 60})
    held = submit_job().id
    claimed(database, hanging, held, me, 1)
    controller = controller_of(database, hanging)
    # So that the hint hangs until the end of the test, however long the lease takes.
    controller.celery.conf.broker_transport_options["connect_timeout_ms"] = 120_000
    unsent = new_job_id()
    submit_job(id=unsent, celery_message=messages.for_job(controller.celery, unsent, "ann", JobSpec()))
    with running(controller):
        wait_for("the hint", lambda: hints_out(database))
        rounds = sweep_of(controller, "hints").stats.runs
        wait_for("the end of its lease", lambda: get_job(held).failures)
        # The hints' loop is still in the same round, with a hint that the broker does not answer.
        assert sweep_of(controller, "hints").stats.runs == rounds
        wait_for("the heartbeat", lambda: heartbeat_of(hanging).exists())
        silent_broker.close()
        wait_for("the hint to be put back", lambda: not hints_out(database))
    with database.begin() as tx:
        assert fleet.get_controllers(tx) == ()


def heartbeat_of(settings: Settings) -> Path:
    return settings.state_folder / "controller.heartbeat"


def test_a_loop_that_hangs_stops_the_heartbeat(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(controller_loop, "PULSE_SECONDS", 0.05)
    controller = controller_of(database, settings.model_copy(update={"sweep_seconds": 0.1}))
    hangs, go_on = threading.Event(), threading.Event()

    def hang() -> int:
        hangs.set()
        go_on.wait(60)
        return 0

    clearing, others = loop_of(controller, "clearing"), sweep_of(controller, "leases")
    clearing.sweeps = (Sweep("hangs", hang, controller.metrics),)
    clearing.longest_round_seconds = 0.5

    def let_others_turn() -> None:
        seen = others.stats.runs
        wait_for("rounds of another loop", lambda: others.stats.runs > seen + 5)

    with running(controller):
        assert hangs.wait(60)
        wait_for("the loop to be given up", lambda: not clearing.is_turning)
        let_others_turn()
        heartbeat_of(settings).unlink()
        let_others_turn()
        assert not heartbeat_of(settings).exists()
        go_on.set()
        wait_for("the heartbeat", lambda: heartbeat_of(settings).exists())


def test_a_loop_that_dies_ends_the_controller_with_its_error(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller = controller_of(database, settings.model_copy(update={"sweep_seconds": 0.1}))

    def die(name: str) -> None:
        raise ZeroDivisionError(name)

    monkeypatch.setattr(controller.metrics, "note_round", die)
    with running(controller) as died:
        wait_for("the end", lambda: died)
    assert isinstance(died[0], ZeroDivisionError)
