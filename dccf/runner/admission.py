"""Refuses a job whose options this worker cannot grant, before anything is built."""

from __future__ import annotations

from typing import Literal

from dccf import allowances, fields
from dccf.config import Settings
from dccf.errors import AttemptFailed, EngineUnavailable
from dccf.models import JobSpec, Reason, Stream
from dccf.runner import secrets
from dccf.runner.base import LogSink
from dccf.runner.engine import Engine
from dccf.runner.firewall import Firewall
from dccf.runner.wire import Refused


def check(engine: Engine, settings: Settings, spec: JobSpec, owner: str | None) -> None:
    """Check a job's options against the settings, the daemon, and the owner's secrets.

    Raises:
        AttemptFailed: ``rejected``; says which option, and what to do.
        EngineUnavailable: the daemon does not answer.
    """
    refused = allowances.refusals(spec, settings)
    if refused:
        raise AttemptFailed(Reason.REJECTED, f"The job's options are not allowed here: {fields.in_words(refused)}.")
    if spec.runtime is not None and spec.runtime not in (known := runtimes_of(engine)):
        raise AttemptFailed(
            Reason.REJECTED,
            f"The runtime {spec.runtime!r} is not there: this worker's Docker daemon has {', '.join(known)}. "
            "Use one of these or none, or a queue whose workers have it.",
        )
    if owner is not None:
        secrets.read(settings.secrets_folder, owner, spec.secrets)


def check_firewall(firewall: Firewall, settings: Settings, spec: JobSpec) -> None:
    """Refuse a container with a network where nothing keeps it from what is not public.

    Raises:
        AttemptFailed: ``rejected``.
        EngineUnavailable: the daemon does not answer.
    """
    if spec.network != "bridge" or settings.bridge_firewall == "off":
        return
    opening = firewall.opening()
    if opening:
        raise AttemptFailed(
            Reason.REJECTED,
            f"network: bridge is refused on this worker, its firewall is not in force: {opening}. Set it up there "
            "with `dccf firewall`, or set DCCF_BRIDGE_FIREWALL=off where other walls do the same.",
        )


def build_network(firewall: Firewall, settings: Settings, log: LogSink) -> Literal["none", "default"]:
    """Choose the network of RUN instructions: with ``egress`` none, and a line in the log, without the firewall.

    Raises:
        EngineUnavailable: the daemon does not answer.
    """
    if settings.build_network != "egress":
        return settings.build_network
    opening = firewall.opening()
    if not opening:
        return "default"
    log.write(
        Stream.BUILD_STDERR, f"RUN has no network: this worker's firewall is not in force, {opening}\n".encode()
    )
    return "none"


def runtimes_of(engine: Engine) -> tuple[str, ...]:
    """List the OCI runtimes that a daemon says it has; whether one works is another question.

    Raises:
        EngineUnavailable: it does not answer.
    """
    try:
        return tuple(sorted(engine.info().get("Runtimes") or ()))
    except Refused as error:
        raise EngineUnavailable(f"The Docker daemon does not describe itself: {error}") from error
