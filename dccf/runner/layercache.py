"""Keeps the layers of an owner's builds for that owner's next ones; off unless it has a budget.

BuildKit has one cache for all. So that nobody gets a layer that another owner built, the first step of such a build
makes a file with the owner's name: BuildKit finds a layer by all steps before it, and these begin with that one.
An owner's builds take turns, as those at the same time would share steps (see :mod:`dccf.runner.apart`).

What is over the budget is dropped as a whole, and the first step then has another name. A layer that is made again
beside an image that still has it would never be removed from the daemon's disk (measured on 20.10.24).
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from collections.abc import Iterator
from pathlib import Path

from dccf.runner.apart import OwnStep
from dccf.runner.base import StopSignal
from dccf.runner.engine import Engine
from dccf.runner.turns import turn

#: The file of the build context that the first step copies.
OWNER_FILE = ".dccf-owner"


class LayerCache:
    """The kept layers of one daemon of our own."""

    def __init__(self, engine: Engine, folder: Path, budget_bytes: int) -> None:
        self._engine = engine
        self._folder = folder
        self._budget_bytes = budget_bytes

    @property
    def is_on(self) -> bool:
        """Whether layers are kept at all."""
        return self._budget_bytes > 0

    def step_of(self, owner: str) -> OwnStep:
        """Give the step that the owner's builds begin with until the cache is dropped."""
        whole = hashlib.sha256(f"{self._generation()} {owner}".encode("utf-8", "surrogatepass")).hexdigest()
        return OwnStep(OWNER_FILE, f"dccf-owner-{whole}")

    @contextlib.contextmanager
    def turn_of(self, owner: str, stop: StopSignal, timeout_seconds: float) -> Iterator[None]:
        """Keep the owner's other builds on this machine waiting.

        Raises:
            AttemptFailed, AttemptStopped: as :func:`dccf.runner.turns.turn` says.
        """
        name = hashlib.sha256(owner.encode("utf-8", "surrogatepass")).hexdigest()[:2]
        with turn(self._folder / f"owner-{name}.lock", stop, timeout_seconds, "Another build of this owner goes on"):
            yield

    def is_over_budget(self) -> bool:
        """Ask the daemon, which takes a while.

        Raises:
            Refused, EngineUnavailable: it does not say.
        """
        return self._engine.build_cache_bytes() > self._budget_bytes

    def begin_anew(self) -> None:
        """Let no later build use a layer that is there now."""
        self._folder.mkdir(parents=True, exist_ok=True)
        name = secrets.token_hex(8)
        new = self._file.with_suffix(f".{name}")  # of its own: two processes may begin at once
        new.write_text(name)
        new.replace(self._file)

    @property
    def _file(self) -> Path:
        return self._folder / "layers"

    def _generation(self) -> str:
        try:
            return self._file.read_text()
        except FileNotFoundError:
            self.begin_anew()
            return self._file.read_text()
