"""Refuses a job whose options this worker cannot grant, before anything is built."""

from __future__ import annotations

from dccf import allowances
from dccf.config import Settings
from dccf.errors import AttemptFailed, EngineUnavailable
from dccf.models import JobSpec, Reason
from dccf.runner import secrets
from dccf.runner.engine import Engine
from dccf.runner.wire import Refused


def check(engine: Engine, settings: Settings, spec: JobSpec, owner: str | None) -> None:
    """Check a job's options against the settings, the daemon, and the owner's secrets.

    Raises:
        AttemptFailed: ``rejected``; says which option, and what to do.
        EngineUnavailable: the daemon does not answer.
    """
    refused = allowances.refusals(spec, settings)
    if refused:
        raise AttemptFailed(
            Reason.REJECTED, f"The job's options are not allowed here: {allowances.in_words(refused)}."
        )
    if spec.runtime is not None and spec.runtime not in (known := runtimes_of(engine)):
        raise AttemptFailed(
            Reason.REJECTED,
            f"The runtime {spec.runtime!r} is not there: this worker's Docker daemon has {', '.join(known)}. "
            "Use one of these or none, or a queue whose workers have it.",
        )
    if owner is not None:
        secrets.read(settings.secrets_folder, owner, spec.secrets)


def runtimes_of(engine: Engine) -> tuple[str, ...]:
    """List the OCI runtimes that a daemon says it has; whether one works is another question.

    Raises:
        EngineUnavailable: it does not answer.
    """
    try:
        return tuple(sorted(engine.info().get("Runtimes") or ()))
    except Refused as error:
        raise EngineUnavailable(f"The Docker daemon does not describe itself: {error}") from error
