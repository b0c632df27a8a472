"""The controller's loop: what its sweeps did is told, and one that fails holds no other up."""

from __future__ import annotations

import pytest

from dccf.celery_app import DccfCelery
from dccf.config import Settings
from dccf.controller import schedules
from dccf.controller.loop import Controller
from dccf.store import fleet
from dccf.store.database import Database
from dccf.store.fleet import ControllerInfo

pytestmark = pytest.mark.postgres


def controller_of(database: Database, settings: Settings) -> Controller:
    celery = DccfCelery("test")
    celery.__dict__.update(settings=settings, database=database)
    return Controller(celery, database, settings)


def told(database: Database) -> ControllerInfo:
    with database.begin() as tx:
        (info,) = fleet.get_controllers(tx)
    return info


def test_a_controller_tells_what_each_of_its_sweeps_did_and_took(database: Database, settings: Settings) -> None:
    controller_of(database, settings).sweep()
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
    controller_of(database, settings).sweep()
    assert (told(database).sweeps["schedules"].failures, told(database).sweeps["hints"].runs) == (1, 1)
