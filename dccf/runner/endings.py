"""Says how a container ended, from what the daemon and the watchdog know of it."""

from __future__ import annotations

from dataclasses import replace

from dccf.config import Settings
from dccf.errors import EngineUnavailable
from dccf.fields import MIB
from dccf.models import JobSpec, Reason
from dccf.runner import spec as translation
from dccf.runner.base import AttemptRef, Exit
from dccf.runner.engine import ContainerState, Engine
from dccf.runner.outputs import OutputStore
from dccf.runner.wire import Refused

#: The exit code of a program that the kernel ended for too large a file (SIGXFSZ is 25, signal(7)).
_FILE_TOO_LARGE = 128 + 25
_KILLED = 128 + 9


def exit_of(
    state: ContainerState,
    killed_for: Reason | None,
    spec: JobSpec,
    settings: Settings,
    *,
    is_log_complete: bool,
    is_output_full: bool,
    hint: str = "",
) -> Exit:
    """Describe the end of a container. The reason for which it was killed comes first.

    ``hint`` is said of an exit code that nothing else explains.

    Raises:
        EngineUnavailable: the container has not ended, whatever the daemon said before.
    """
    if state.is_running:
        raise EngineUnavailable("The Docker daemon said that a container ended, and that it runs.")
    reason, message = _reason(state, killed_for, spec, settings, is_output_full=is_output_full)
    if reason is Reason.EXIT_NONZERO:
        message += hint
    warnings = []
    if state.is_oom_killed and reason is None:
        warnings.append(
            f"A process in the container was killed: together they used more than {_mib(spec.memory)} of memory."
        )
    if not is_log_complete:
        warnings.append("A part of the container's output was not received.")
    # The daemon takes the two times in different places: a short container may end before it starts (measured).
    finished_at = max(state.started_at, state.finished_at)
    return Exit(state.exit_code, reason, message, state.started_at, finished_at, tuple(warnings))


def state_of(engine: Engine, container: str, *, is_explained: bool) -> ContainerState:
    """Give how a container ended; ``is_explained`` when it is known who killed it.

    That memory ran out reaches the daemon by another way than the end, and may come after it: the record then says
    nothing of it (seen once, on 20.10.24).
    """
    state = engine.state(container)
    if is_explained or state.is_oom_killed or state.exit_code != _KILLED:
        return state
    return replace(state, is_oom_killed=engine.has_event(container, "oom"))


def is_output_full(engine: Engine, store: OutputStore, attempt: AttemptRef) -> bool:
    """Tell whether a container that has ended could write no more to ``/output``.

    Only a container that has a ``tmpfs`` mounted can look at it: the one that keeps it.
    """
    if store.kind != "tmpfs":
        return store.is_full(attempt)
    try:
        said = engine.execute(translation.keeper_name_of(attempt), ["stat", "-f", "-c", "%a %d", translation.OUTPUT])
    except Refused:  # it has no such program, or is gone
        return False
    return b"0" in said.split()  # free blocks or free inodes


def _reason(
    state: ContainerState, killed_for: Reason | None, spec: JobSpec, settings: Settings, *, is_output_full: bool
) -> tuple[Reason | None, str]:
    if killed_for is Reason.TIMED_OUT:
        return killed_for, f"The container ran longer than {spec.timeout_seconds:g} s."
    if killed_for is Reason.LOG_LIMIT_EXCEEDED:
        return killed_for, f"The container printed more than {_mib(settings.log_limit_bytes)}."
    if killed_for is Reason.DISK_LIMIT_EXCEEDED:
        return killed_for, (
            f"The container wrote more than {_mib(settings.rootfs_limit_bytes)} outside of /output: "
            "write less, or to /output, or ask the administrator for a higher DCCF_ROOTFS_LIMIT_BYTES."
        )
    if state.exit_code == 0:
        return None, "The container ended with exit code 0."
    if state.is_oom_killed:
        return Reason.OUT_OF_MEMORY, (
            f"The container used more than its {_mib(spec.memory)} of memory (exit code {state.exit_code}): "
            "ask for more memory, or use less; files in /tmp count as memory."
        )
    if is_output_full:
        return Reason.OUTPUT_LIMIT_EXCEEDED, (
            f"The container filled /output and ended with exit code {state.exit_code}: it may hold "
            f"{_mib(settings.output_limit_bytes)} in {settings.output_files_limit} files. What fits was kept."
        )
    why = ""
    if state.exit_code == _FILE_TOO_LARGE:
        why = f" A single file may have {_mib(settings.output_limit_bytes)}."
    return Reason.EXIT_NONZERO, f"The container ended with exit code {state.exit_code}.{why}"


def _mib(size: int) -> str:
    return f"{size / MIB:g} MiB"
