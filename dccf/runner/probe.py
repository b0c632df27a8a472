"""Asks a daemon what it can do, and finds out what it does not say by trying."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from dccf.errors import AttemptFailed, EngineUnavailable
from dccf.models import StopCause, Stream
from dccf.runner.build import Build, BuildKitProgress
from dccf.runner.context import DOCKERFILE, tar_stream
from dccf.runner.dockerfile import Grammar, parse
from dccf.runner.engine import Engine
from dccf.runner.wire import Refused

EXCLUSIVE_LABEL = "dccf.exclusive=true"
PROBE_SECONDS = 30.0
#: Docker's first version whose own Dockerfile parser knows here-documents.
_HEREDOC_VERSION = 23
_PROBE = 'FROM scratch\nLABEL dccf.managed="true" dccf.probe="true"\n'


@dataclass(frozen=True)
class Capabilities:
    """What a daemon can do. ``is_exclusive``: it is there for DCCF alone, so cleaning it as a whole is fine."""

    version: str
    builder: Literal["buildkit", "classic"]
    heredocs: bool
    is_exclusive: bool
    warnings: tuple[str, ...]


def probe(engine: Engine) -> Capabilities:
    """Find out what a daemon can do.

    Raises:
        EngineUnavailable: it does not answer, or is too old; the message says what to do.
    """
    try:
        version, info = engine.version(), engine.info()
    except Refused as error:
        # The daemon does not speak our version of the API.
        raise EngineUnavailable(f"The Docker daemon is too old; Docker 20.10 is needed. It says: {error}") from error
    except EngineUnavailable as error:
        raise EngineUnavailable(
            f"The Docker daemon at {engine.docker_url} cannot be used: {error} Start it, or set DCCF_DOCKER_URL."
        ) from error
    number = str(version.get("Version", ""))
    has_buildkit = _builds_with_buildkit(engine)
    return Capabilities(
        version=number,
        builder="buildkit" if has_buildkit else "classic",
        heredocs=has_buildkit and _numbers(number)[:1] >= [_HEREDOC_VERSION],
        is_exclusive=EXCLUSIVE_LABEL in (info.get("Labels") or ()),
        warnings=tuple(_warnings(info)),
    )


def _numbers(version: str) -> list[int]:
    return [int(part) if part.isdigit() else 0 for part in version.split("+", maxsplit=1)[0].split(".")]


def _warnings(info: dict[str, Any]) -> list[str]:
    """Say which walls are missing, strongest first."""
    options = [str(option) for option in info.get("SecurityOptions") or ()]
    found = []
    if info.get("CgroupDriver") == "none":
        found.append("The daemon has no control groups: memory and process limits are not applied.")
    if not any(option.startswith("name=seccomp") for option in options):
        found.append("The daemon has no seccomp filter.")
    if not any(option.startswith(("name=userns", "name=rootless")) for option in options):
        found.append("Root in a container is root on the machine: start dockerd with --userns-remap=default.")
    if not info.get("MemoryLimit", True):
        found.append("The kernel cannot limit the memory of containers.")
    if not info.get("PidsLimit", True):
        found.append("The kernel cannot limit the number of processes in a container.")
    return found


class _Silence:
    """A log and a stop signal for builds that nobody watches."""

    def write(self, stream: Stream, data: bytes) -> None:
        """Drop it."""

    def cause(self) -> StopCause | None:
        """Go on."""
        return None


def _builds_with_buildkit(engine: Engine) -> bool:
    """Try whether BuildKit builds without a session, which depends on how the daemon stores images."""
    silence = _Silence()
    parameters = {"version": "2", "networkmode": "none", "labels": json.dumps({"dccf.managed": "true"})}
    context = tar_stream([(DOCKERFILE, _PROBE.encode())], [], silence)
    build = Build(engine, parameters, context, BuildKitProgress(parse(_PROBE, Grammar()), silence))
    try:
        image = build.run(silence, PROBE_SECONDS)
    except AttemptFailed:
        return False
    engine.remove_image(image)
    return True
