"""A worker tries its daemon before it takes jobs, and takes none while a wall is missing."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from dccf import errors
from dccf.cli.doctor import doctor
from dccf.config import Settings
from dccf.runner import selftest
from dccf.runner.fake import FakeRunner
from dccf.runner.selftest import Check
from dccf.store.database import Database
from dccf.worker.context import Gate, WorkerContext
from dccf.worker.keeper import Keeper

GOOD = (
    Check("daemon", passed=True, detail="Docker 1"),
    Check("user namespace", passed=False, detail="root", is_required=False),
)
BAD = (*GOOD, Check("memory limit", passed=False, detail="not applied"))


class Seen:
    """A keeper whose pauses and resumes are counted, on a self-test that a test scripts."""

    def __init__(self, database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        self.checks: tuple[Check, ...] = BAD
        self.context = WorkerContext(settings, database, FakeRunner(settings), gate=Gate(is_open=False))
        self.keeper = Keeper(
            self.context, lambda: self.calls.append("pause"), lambda: self.calls.append("resume"), lambda: 1
        )
        monkeypatch.setattr(selftest, "run", lambda *_: self.checks)

    def look(self) -> str:
        """Let the keeper look at its engine now; give why the worker takes no jobs."""
        self.keeper._next_test = 0
        self.keeper._check_engine()
        return self.keeper._trouble


@pytest.mark.postgres
def test_a_worker_takes_no_jobs_until_its_self_test_passes(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Seen(database, settings, monkeypatch)

    assert "memory limit: not applied" in seen.look()
    assert seen.calls == []  # it is paused from the start
    with pytest.raises(errors.EngineUnavailable, match="self-test"):
        seen.context.require_able()

    seen.checks = GOOD
    assert seen.look() == ""
    assert seen.calls == ["resume"]
    seen.context.require_able()


@pytest.mark.postgres
def test_a_worker_that_is_told_to_takes_jobs_all_the_same(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Seen(database, settings.model_copy(update={"self_test": "warn"}), monkeypatch)

    assert seen.look() == ""
    seen.context.require_able()


def test_the_doctor_shows_the_self_test_as_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "run", lambda *_: BAD)
    monkeypatch.setenv("DCCF_DATABASE_URL", "postgresql://x")
    monkeypatch.setenv("DCCF_BROKER_URL", "kafka://x")

    shown = CliRunner().invoke(doctor, ["--worker"])

    assert shown.exit_code == 1
    assert [line.split(maxsplit=1)[0] for line in shown.output.splitlines()] == ["ok", "warn", "fail"]
