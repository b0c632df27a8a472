"""Goes on with a container whose process died: reads its log anew, waits for its end, and says how that was."""

from __future__ import annotations

from datetime import UTC, datetime

from dccf.config import Settings
from dccf.errors import EngineUnavailable
from dccf.models import Reason, StopCause
from dccf.runner import watchdog
from dccf.runner.base import AttemptRef, StopSignal
from dccf.runner.engine import ContainerState, Engine
from dccf.runner.keptlog import KeptLog
from dccf.runner.outputs import OutputStore, kind_of, store_of
from dccf.runner.spec import name_of
from dccf.runner.watchdog import Verdict
from dccf.runner.wire import Refused

#: How a container ends whose daemon is killed, or stops in order.
_DAEMON_END_CODES = frozenset({255, 128 + 9, 128 + 15})


def is_started(engine: Engine, attempt: AttemptRef) -> bool:
    """Tell whether an attempt's container was started and is still here.

    Raises:
        EngineUnavailable: the daemon does not answer.
    """
    try:
        return engine.state(name_of(attempt)).has_started
    except Refused as error:
        if error.status != 404:
            raise EngineUnavailable(f"The Docker daemon does not describe a container: {error}") from error
        return False


def find_store(engine: Engine, settings: Settings, attempt: AttemptRef) -> OutputStore:
    """Give the store that an attempt was started with: for new ones this process may have chosen another.

    Raises:
        EngineUnavailable: the daemon does not tell.
    """
    try:
        return store_of(settings, kind_of(engine.volume_options(name_of(attempt))))
    except Refused as error:
        raise EngineUnavailable(f"The Docker daemon has lost the volume of /output: {error}") from error


def see_through(
    engine: Engine,
    container: str,
    kept: KeptLog,
    stop: StopSignal,
    timeout_seconds: float,
    disk_limit_bytes: int | None = None,
) -> tuple[Verdict, bool]:
    """Watch a started container to its end; give why it was killed, and whether all that is kept of its log was read.

    Raises:
        EngineUnavailable: the daemon went away, or did so before and ended the container with that.
    """
    try:
        state = engine.state(container)
    except Refused as error:
        raise EngineUnavailable(f"The Docker daemon has lost the container: {error}") from error
    if not state.is_running:
        return _verdict(engine, container, state, timeout_seconds, kept)
    left = timeout_seconds - (datetime.now(UTC) - state.started_at).total_seconds()
    with kept.following():
        verdict = watchdog.watch(engine, container, stop, kept.limit_exceeded, max(0.0, left), disk_limit_bytes)
    return verdict, verdict.stopped is StopCause.ORPHANED or kept.read_rest()


def _verdict(
    engine: Engine, container: str, state: ContainerState, timeout_seconds: float, kept: KeptLog
) -> tuple[Verdict, bool]:
    """Say why a container ended that nobody watched."""
    # Of a container that died with the daemon, or while it was away, the daemon remembers no end: its record says
    # exit code 255 and the time of the daemon's next start, or that of the signal with which the daemon ended it
    # when it was stopped in order (137, 143; all measured on 20.10.24).
    is_daemons = state.exit_code in _DAEMON_END_CODES and not state.is_oom_killed
    if is_daemons and not engine.has_event(container, "die"):
        raise EngineUnavailable("The Docker daemon was started again, and the container died with it.")
    is_complete = kept.read_rest()
    if (state.finished_at - state.started_at).total_seconds() > timeout_seconds:
        return Verdict(reason=Reason.TIMED_OUT), is_complete
    if kept.limit_exceeded.is_set():
        return Verdict(reason=Reason.LOG_LIMIT_EXCEEDED), is_complete
    return Verdict(), is_complete
