"""Asks a daemon what it can do, and finds out what it does not say by trying."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from dccf.config import Settings
from dccf.errors import AttemptFailed, EngineUnavailable
from dccf.models import StopCause, Stream
from dccf.runner import spec as translation
from dccf.runner.base import AttemptRef
from dccf.runner.build import Build, BuildKitProgress, ClassicProgress
from dccf.runner.context import DOCKERFILE, tar_stream
from dccf.runner.dockerfile import Dockerfile, Grammar, parse
from dccf.runner.engine import Engine, ImageFacts
from dccf.runner.outputs import Kind, OutputStore, can_loop, store_of
from dccf.runner.wire import Refused

EXCLUSIVE_LABEL = "dccf.exclusive=true"
PROBE_SECONDS = 30.0
#: Docker's first version whose own Dockerfile parser knows here-documents.
_HEREDOC_VERSION = 23
#: What a killed process may leave is known by these.
PROBE_LABELS = {"dccf.managed": "true", "dccf.probe": "true"}
_PROBES = 5
_PROBE = 'FROM scratch\nLABEL dccf.managed="true"\n'
#: A file that the worker writes and the daemon has to see.
_WITNESS = "witness"
_LOG = logging.getLogger(__name__)

Builder = Literal["buildkit", "classic"]


@dataclass(frozen=True)
class Capabilities:
    """What a daemon can do. ``is_exclusive``: it is there for DCCF alone, so cleaning it as a whole is fine."""

    version: str
    builder: Builder
    heredocs: bool
    is_exclusive: bool
    warnings: tuple[str, ...]
    #: Changes when another daemon, or another version of it, answers.
    identity: tuple[str, str] = ("", "")
    #: The machine's user who is root in containers: 0, or another with userns-remap.
    root_id: int = 0


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
        raise unusable(engine, error) from error
    number = str(version.get("Version", ""))
    has_buildkit = _builds_with_buildkit(engine)
    return Capabilities(
        version=number,
        builder="buildkit" if has_buildkit else "classic",
        heredocs=has_buildkit and _numbers(number)[:1] >= [_HEREDOC_VERSION],
        is_exclusive=EXCLUSIVE_LABEL in (info.get("Labels") or ()),
        warnings=tuple(_warnings(info)),
        identity=identity_of(info),
        root_id=root_id_of(info),
    )


def unusable(engine: Engine, error: EngineUnavailable) -> EngineUnavailable:
    """Say which daemon does not answer, and what to do."""
    return EngineUnavailable(
        f"The Docker daemon at {engine.docker_url} cannot be used: {error} Start it, or set DCCF_DOCKER_URL."
    )


def identity_of(info: Mapping[str, Any]) -> tuple[str, str]:
    """Tell one daemon from another."""
    return str(info.get("ID", "")), str(info.get("ServerVersion", ""))


def root_id_of(info: Mapping[str, Any]) -> int:
    """Say which user of the machine is root in containers.

    With userns-remap the daemon keeps its data in a folder named after that user's and group's ids
    (docs.docker.com/engine/security/userns-remap).
    """
    if not any(str(option).startswith("name=userns") for option in info.get("SecurityOptions") or ()):
        return 0
    user = str(info.get("DockerRootDir", "")).rpartition("/")[2].partition(".")[0]
    return int(user) if user.isdecimal() else 0


def builder_for(known: Capabilities, dockerfile: Dockerfile) -> tuple[Builder, int]:
    """Say which builder to use, and who has to own the files that it is sent.

    With userns-remap BuildKit takes the ids in the context, and in archives that ADD unpacks, for the machine's
    (measured on 20.10.24). What root owns is then left out of the layer, with a line in its log alone, and all
    such empty layers are one: a job could see another's files. Archives are the user's, so the classic builder takes
    what has an ADD.
    """
    if known.builder == "classic" or not known.root_id:
        return known.builder, 0
    if any(instruction.keyword == "ADD" for instruction in dockerfile.instructions):
        return "classic", 0
    return "buildkit", known.root_id


def choose_store(engine: Engine, builder: str, settings: Settings) -> OutputStore:
    """Choose where ``/output`` lies: the best store that works with this daemon, or the one that was asked for.

    Raises:
        EngineUnavailable: the one that was asked for does not work; the message says why.
    """
    wanted: tuple[Kind, ...] = ("loop", "plain") if settings.output_store == "auto" else (settings.output_store,)
    for kind in wanted:
        store = store_of(settings, kind)
        if kind == "tmpfs" and engine.image(settings.self_test_image) is None:
            raise EngineUnavailable(
                f"DCCF_OUTPUT_STORE=tmpfs needs the image {settings.self_test_image} (DCCF_SELF_TEST_IMAGE) on the "
                "Docker daemon: pull it, or set DCCF_OUTPUT_STORE to auto."
            )
        if kind in {"archive", "tmpfs"} or not (why := _why_not(engine, builder, store, settings.worker_name)):
            return store
        if settings.output_store != "auto":
            raise EngineUnavailable(f"DCCF_OUTPUT_STORE={kind} does not work here: {why} Set it to auto.")
        _LOG.info("/output is not kept in a %s store: %s", kind, why)
    return store_of(settings, "archive")


def _why_not(engine: Engine, builder: str, store: OutputStore, worker: str) -> str:
    """Try whether what the worker writes into a store is seen by the daemon; empty when it is."""
    if os.geteuid() != 0 or (store.kind == "loop" and not can_loop()):
        return "the worker is not root, or has no loop devices or tools for them."
    attempt = AttemptRef(uuid.uuid4(), 1, worker)
    try:
        image = _probe_image(engine, builder)
    except AttemptFailed as error:
        raise EngineUnavailable(f"The Docker daemon does not build: {error.message}") from error
    container = translation.helper_name_of(attempt)
    try:
        volume = store.prepare(attempt)
        (store.root / worker / translation.name_of(attempt) / _WITNESS).write_text("")
        engine.create(container, translation.preparation_config(attempt, ImageFacts(image, 0), volume))
        engine.link_target(container, f"{translation.OUTPUT}/{_WITNESS}")
    except (Refused, EngineUnavailable, OSError) as error:
        return f"{error}"
    finally:
        engine.remove_container(container)
        engine.remove_volume(translation.name_of(attempt))
        store.remove(attempt)
        engine.remove_image(image)
    return ""


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
    try:
        image = _probe_image(engine, "buildkit")
    except AttemptFailed:
        return False
    engine.remove_image(image)
    return True


def _probe_image(engine: Engine, builder: str) -> str:
    """Build an image with nothing in it; give its id.

    Another process that drops BuildKit's cache at this moment may make a build fail (seen), hence the tries.

    Raises:
        AttemptFailed: this builder does not work.
    """
    for _ in range(_PROBES - 1):
        with contextlib.suppress(AttemptFailed):
            return _build_probe(engine, builder)
    return _build_probe(engine, builder)


def _build_probe(engine: Engine, builder: str) -> str:
    silence = _Silence()
    dockerfile = parse(_PROBE, Grammar())
    progress = (
        BuildKitProgress(dockerfile, silence) if builder == "buildkit" else ClassicProgress(dockerfile, silence)
    )
    # No cache: images of two workers that try at the same time must not be the same one.
    parameters = {"version": "2" if builder == "buildkit" else "1", "networkmode": "none", "nocache": "1"}
    parameters["labels"] = json.dumps({**PROBE_LABELS, "dccf.nonce": uuid.uuid4().hex})
    context = tar_stream([(DOCKERFILE, _PROBE.encode())], [], silence)
    return Build(engine, parameters, context, progress).run(silence, PROBE_SECONDS)
