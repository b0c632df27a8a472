"""What an administrator lets jobs ask for: the options of a job held against the settings.

The API asks before it takes a job in, and the worker again, whose settings may be others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from dccf.config import Settings
from dccf.errors import FieldError
from dccf.fields import MIB
from dccf.models import JobSpec

_ASK = "ask the administrator for"


def refusals(spec: JobSpec, settings: Settings) -> tuple[FieldError, ...]:
    """Say what of a job's options is not allowed here, each with a way out; nothing when all is."""
    return tuple(FieldError(f"#/{field}", detail) for rule in _RULES for field, detail in rule(spec, settings))


def _network(spec: JobSpec, settings: Settings) -> Iterator[tuple[str, str]]:
    if spec.network == "bridge" and not settings.allow_bridge:
        yield "network", f"'bridge' is switched off here; use 'none', or {_ASK} DCCF_ALLOW_BRIDGE"


def _profile(spec: JobSpec, settings: Settings) -> Iterator[tuple[str, str]]:
    if spec.profile not in settings.allowed_profiles:
        others = " or ".join(settings.allowed_profiles)
        yield (
            "profile",
            f"{spec.profile!r} is not allowed here; use {others}, or {_ASK} it in DCCF_ALLOWED_PROFILES",
        )


def _runtime(spec: JobSpec, settings: Settings) -> Iterator[tuple[str, str]]:
    if spec.runtime is not None and spec.runtime not in settings.allowed_runtimes:
        others = f"use {' or '.join(settings.allowed_runtimes)}" if settings.allowed_runtimes else "leave it out"
        yield (
            "runtime",
            f"{spec.runtime!r} is not allowed here; {others}, or {_ASK} it in DCCF_ALLOWED_RUNTIMES",
        )


def _resources(spec: JobSpec, settings: Settings) -> Iterator[tuple[str, str]]:
    if settings.cpus_limit is not None and spec.cpus > settings.cpus_limit:
        yield "cpus", f"{spec.cpus:g} is more than the {settings.cpus_limit:g} of DCCF_CPUS_LIMIT; ask for less"
    most = settings.memory_limit_bytes
    if most is not None and spec.memory > most:
        yield "memory", f"{_mib(spec.memory)} is more than the {_mib(most)} of DCCF_MEMORY_LIMIT_BYTES; ask for less"
    if spec.pids is not None and spec.pids > settings.pids_limit:
        yield "pids", f"{spec.pids} is more than the {settings.pids_limit} of DCCF_PIDS_LIMIT; ask for less"


def _ulimits(spec: JobSpec, settings: Settings) -> Iterator[tuple[str, str]]:
    for name, value in spec.ulimits.items():
        most = settings.ulimits_limit.get(name)
        if most is None:
            yield f"ulimits/{name}", f"{name} cannot be set here; leave it out, or {_ASK} it in DCCF_ULIMITS_LIMIT"
        elif value > most:
            yield f"ulimits/{name}", f"{value} is more than the {most} of DCCF_ULIMITS_LIMIT; ask for less"


def _mib(size: int) -> str:
    return f"{size / MIB:g} MiB"


_RULES: tuple[Callable[[JobSpec, Settings], Iterator[tuple[str, str]]], ...] = (
    _network,
    _profile,
    _runtime,
    _resources,
    _ulimits,
)
