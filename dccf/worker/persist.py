"""Going on without PostgreSQL: containers run, and writes are tried until it is back."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import TypeVar

from dccf import errors
from dccf.models import StopCause
from dccf.runner.base import StopSignal

log = logging.getLogger(__name__)

T = TypeVar("T")
_FIRST_WAIT_SECONDS = 0.2
_LONGEST_WAIT_SECONDS = 2.0


class UntilOrphaned:
    """A stop signal for what happens before an attempt is on the board: the worker's death, nothing else."""

    def __init__(self) -> None:
        self._parent = os.getppid()

    def cause(self) -> StopCause | None:
        """Give ``lost`` once the worker's main process is gone."""
        return StopCause.LOST if os.getppid() != self._parent else None


def persist(write: Callable[[], T], stop: StopSignal) -> T:
    """Do a write that may be repeated, again and again while PostgreSQL is away.

    Raises:
        FencePassed: the attempt is lost, so the write has no place any more.
        DccfError: whatever ``write`` raises, but for StoreUnavailable.
    """
    wait = _FIRST_WAIT_SECONDS
    while True:
        try:
            return write()
        except errors.StoreUnavailable as error:
            if stop.cause() in {StopCause.LOST, StopCause.ORPHANED}:
                raise errors.FencePassed("the attempt is lost and PostgreSQL is away") from error
            log.warning("a write waits for PostgreSQL: %s", error)
            time.sleep(wait)
            wait = min(wait * 2, _LONGEST_WAIT_SECONDS)
