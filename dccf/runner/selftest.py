"""Tries out on the real daemon whether the walls around a job stand, before a worker takes jobs.

What the daemon says of itself is not enough: rootless Docker on control groups of version 1 takes a memory
limit and does not apply it (measured).
"""

from __future__ import annotations

import os
import uuid
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from dccf.config import Settings
from dccf.errors import AttemptFailed, DccfError
from dccf.fields import MIB
from dccf.models import JobSpec, Reason, StopCause, Stream
from dccf.runner import registry
from dccf.runner.base import AttemptRef, ContextFile, EngineInfo, Exit
from dccf.runner.docker_runner import DockerRunner
from dccf.runner.engine import Engine
from dccf.runner.firewall import Firewall

_MEMORY_BYTES = 32 * MIB
_PIDS = 16
#: The least number of processes that the test of the limit wants to start.
_FORKS = 64
_SECONDS = 30.0
_FACTS = r"""
ls /sys/class/net | grep -qvx lo && echo network
touch /probe 2>/dev/null && echo rootfs
touch /output/probe || echo output
grep -q '^CapEff:.*[1-9a-f]' /proc/self/status && echo capabilities
grep -q '^NoNewPrivs:.1' /proc/self/status || echo privileges
grep -q '^Seccomp:.2' /proc/self/status || echo seccomp
awk '{exit $2 != 0}' /proc/self/uid_map && echo userns
exit 0
"""


@dataclass(frozen=True)
class Check:
    """One line of the self-test: ``detail`` says what was seen, and what to do when it failed.

    A worker must not take jobs when a check that ``is_required`` failed.
    """

    name: str
    passed: bool
    detail: str
    is_required: bool = True


class _Recorder:
    """A log that is remembered, and a stop signal that never comes."""

    def __init__(self) -> None:
        self.data: dict[Stream, bytes] = defaultdict(bytes)

    def write(self, stream: Stream, data: bytes) -> None:
        """Keep it."""
        self.data[stream] += data

    def cause(self) -> StopCause | None:
        """Go on."""
        return None


def run(settings: Settings, worker: str | None = None) -> tuple[Check, ...]:
    """Test the daemon at ``settings.docker_url`` with jobs from an image that has a shell.

    What a killed test leaves is under the name of ``worker``. Never raises for what is wrong with the daemon: that
    is what the checks say.
    """
    changes = {"pids_limit": _PIDS, "allowed_images": ("*",), "worker_name": worker or f"{settings.worker_name}-test"}
    settings = settings.model_copy(update=changes)
    runner = DockerRunner(settings)
    try:
        info = runner.check()
    except DccfError as error:
        return (Check("daemon", passed=False, detail=str(error)),)
    checks = [
        Check("daemon", passed=True, detail=f"Docker {info.version}"),
        Check("builder", passed=True, detail=info.builder),
        Check("/output store", passed=True, detail=runner.store_kind),
    ]
    for name, test in _TESTS.items():
        try:
            checks += test(runner, settings)
        except AttemptFailed as error:
            checks.append(Check(name, passed=False, detail=f"It could not be tested: {error}"))
        except DccfError as error:
            checks.append(Check(name, passed=False, detail=str(error)))
    return (*checks, *_firewall(settings), *_files(settings), *_missing(info))


def failures(checks: tuple[Check, ...]) -> str:
    """Say in one text what a worker must not take jobs for; empty when there is nothing."""
    return "; ".join(f"{check.name}: {check.detail}" for check in checks if check.is_required and not check.passed)


def _walls(runner: DockerRunner, settings: Settings) -> list[Check]:
    ended, recorder = _play(runner, settings, _FACTS)
    found = set(recorder.data[Stream.STDOUT].decode("utf-8", "replace").split())
    if ended.exit_code != 0:
        return [Check("container", passed=False, detail=ended.message)]
    return [
        _wall("network", "network" not in found, "only the loopback interface is there", "there is a network"),
        _wall("read-only root", "rootfs" not in found, "nothing can be written", "the image's files can be written"),
        _wall("/output", "output" not in found, "it can be written", "it cannot be written"),
        _wall("capabilities", "capabilities" not in found, "none", "some are left"),
        _wall("no new privileges", "privileges" not in found, "set", "not set"),
        _wall("seccomp", "seccomp" not in found, "a filter is on", "there is no filter"),
        Check(
            "user namespace",
            passed="userns" not in found,
            detail="root in a container is root outside: start dockerd with --userns-remap=default"
            if "userns" in found
            else "root in a container is nobody outside",
            is_required=False,
        ),
    ]


def _wall(name: str, stands: bool, good: str, bad: str) -> Check:
    return Check(name, passed=stands, detail=good if stands else bad)


def _memory(runner: DockerRunner, settings: Settings) -> list[Check]:
    ended, _ = _play(runner, settings, "exec tail /dev/zero")
    applied = ended.reason is Reason.OUT_OF_MEMORY
    detail = f"a container with {_MEMORY_BYTES // MIB} MiB that wanted more ended with {ended.reason}"
    return [Check("memory limit", passed=applied, detail=detail)]


def _processes(runner: DockerRunner, settings: Settings) -> list[Check]:
    script = f"for i in $(seq {_FORKS}); do sleep 5 & done; echo all"
    _, recorder = _play(runner, settings, script)
    applied = b"all" not in recorder.data[Stream.STDOUT]
    detail = f"{_FORKS} processes in a container that may have {_PIDS}: {'refused' if applied else 'started'}"
    return [Check("process limit", passed=applied, detail=detail)]


def _runtimes(runner: DockerRunner, settings: Settings) -> list[Check]:
    """Try each runtime that jobs may ask for; without one of them other jobs can run all the same."""
    checks = []
    for name in settings.allowed_runtimes:
        try:
            ended, _ = _play(runner, settings, "exit 0", runtime=name)
        except AttemptFailed as error:
            checks.append(Check(f"runtime {name}", passed=False, detail=error.message, is_required=False))
        else:
            checks.append(Check(f"runtime {name}", ended.exit_code == 0, ended.message, is_required=False))
    return checks


_TESTS: dict[str, Callable[[DockerRunner, Settings], list[Check]]] = {
    "walls": _walls,
    "memory limit": _memory,
    "process limit": _processes,
    "runtimes": _runtimes,
}


def _files(settings: Settings) -> list[Check]:
    """See whether what jobs may need of the worker's files can be read; those that do not need it can run."""
    checks = []
    folder, auth_file = settings.secrets_folder, settings.registry_auth_file
    if folder is not None:
        can_read = folder.is_dir() and os.access(folder, os.R_OK | os.X_OK)
        detail = "it can be read" if can_read else "DCCF_SECRETS_FOLDER is no folder that the worker can read"
        checks.append(Check("secrets", can_read, detail, is_required=False))
    if auth_file is not None:
        try:
            hosts = ", ".join(registry.hosts_in(auth_file)) or "no registry"
        except registry.UnusableAuthFile as error:
            checks.append(Check("registry passwords", False, f"DCCF_REGISTRY_AUTH_FILE: {error}", is_required=False))
        else:
            checks.append(Check("registry passwords", True, f"for {hosts}", is_required=False))
    return checks


def _firewall(settings: Settings) -> list[Check]:
    """Try the firewall where anything may have a network; without it those have none, others go on."""
    if not settings.allow_bridge and settings.build_network != "egress":
        return []
    try:
        opening = Firewall(Engine(settings.docker_url), settings).opening()
    except DccfError as error:
        opening = str(error)
    good = "containers with a network reach public addresses only"
    bad = (
        f"{opening}; `network: bridge` is refused and builds with `egress` have no network: run `dccf firewall` there"
    )
    return [Check("firewall", passed=not opening, detail=bad if opening else good, is_required=False)]


def _missing(info: EngineInfo) -> list[Check]:
    return [Check("daemon's word", passed=False, detail=warning, is_required=False) for warning in info.warnings]


def _play(
    runner: DockerRunner, settings: Settings, script: str, runtime: str | None = None
) -> tuple[Exit, _Recorder]:
    """Build and run a script, and leave nothing of it.

    Raises:
        DccfError: it could not be built or run.
    """
    attempt = AttemptRef(uuid.uuid4(), 1, settings.worker_name)
    spec = JobSpec(memory=_MEMORY_BYTES, timeout_seconds=_SECONDS, build_timeout_seconds=_SECONDS, runtime=runtime)
    recorder = _Recorder()
    dockerfile = f'FROM {settings.self_test_image}\nCOPY probe /probe.sh\nENTRYPOINT ["sh", "/probe.sh"]\n'
    files = {
        "Dockerfile": dockerfile.encode(),
        "probe": script.encode(),
    }
    context = [ContextFile(path, len(data), 0o755, [data]) for path, data in files.items()]
    try:
        built = runner.build(attempt, spec, context, recorder, recorder)
        return runner.run(attempt, spec, built, recorder, recorder), recorder
    finally:
        runner.remove(attempt)
