"""What a worker's processes share: settings, store, who holds the leases, the runner, the board."""

from __future__ import annotations

import mmap
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from billiard import current_process

from dccf import errors
from dccf.config import Settings
from dccf.lifecycle.attempts import Holder
from dccf.store.database import Database
from dccf.worker.board import Board
from dccf.worker.tally import Counts, Tally

#: A hint waits for so long behind an attempt that was adopted; then another worker may have it.
SLOT_WAIT_SECONDS = 15.0
_SLOT_POLL_SECONDS = 0.1

if TYPE_CHECKING:
    from dccf.runner.base import Runner


def make_runner(settings: Settings, kind: str) -> Runner:
    """Make the runner that the settings name (``docker`` or ``fake``)."""
    if kind == "fake":
        from dccf.runner.fake import FakeRunner

        return FakeRunner(settings)
    from dccf.runner.docker_runner import DockerRunner

    return DockerRunner(settings)


class Gate:
    """Whether a worker may take jobs as far as its self-test goes; the main process opens it for all."""

    def __init__(self, *, is_open: bool) -> None:
        self._memory = mmap.mmap(-1, 1)
        self._memory[0] = is_open

    @property
    def is_open(self) -> bool:
        """Whether jobs may be taken."""
        return bool(self._memory[0])

    def open(self) -> None:
        """Let jobs in."""
        self._memory[0] = 1


def _open_gate() -> Gate:
    return Gate(is_open=True)


@dataclass(frozen=True)
class WorkerContext:
    """Made once by the main process; pool processes inherit it over fork.

    The runner and the database make their connections anew in each process.
    """

    settings: Settings
    database: Database
    runner: Runner
    board: Board = field(default_factory=Board)
    tally: Tally = field(default_factory=Tally)
    gate: Gate = field(default_factory=_open_gate)
    #: One life of the worker: a restart is another one, so that leases of the old life are known as such.
    life: str = field(default_factory=lambda: uuid.uuid4().hex[:12])

    def require_able(self) -> None:
        """Make sure that a job can be taken now.

        Raises:
            EngineUnavailable: it cannot; the message says why.
        """
        deadline = time.monotonic() + SLOT_WAIT_SECONDS
        while self.board.is_adopted(self.entry):
            if time.monotonic() > deadline:
                raise errors.EngineUnavailable("its slot is taken by an attempt whose process died and that goes on")
            time.sleep(_SLOT_POLL_SECONDS)
        if not self.gate.is_open:
            raise errors.EngineUnavailable("its self-test has not passed; dccf workers says why")
        self.runner.check()

    @property
    def holder(self) -> Holder:
        """In whose name this worker claims."""
        name = self.settings.worker_name
        return Holder(name, f"{name}/{self.life}")

    @property
    def counts(self) -> Counts:
        """What the calling pool process counts in."""
        return self.tally.of(self.entry)

    @property
    def entry(self) -> int:
        """The board entry of the calling process: its place in the pool."""
        return getattr(current_process(), "index", None) or 0


_current: list[WorkerContext] = []


def install(context: WorkerContext) -> None:
    """Make a context the one of this process and of those it forks."""
    _current[:] = [context]


def current() -> WorkerContext:
    """Give the context of this process.

    Raises:
        RuntimeError: the process is no worker that ``dccf worker`` started.
    """
    if not _current:
        raise RuntimeError("run_dockerfile is executed by workers that `dccf worker` starts, not by `celery worker`")
    return _current[0]
