"""Creates and starts the container of an attempt, and says whose fault it is when that fails."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping

from pydantic import SecretStr

from dccf.config import Settings
from dccf.errors import AttemptFailed, EngineUnavailable
from dccf.models import JobSpec, Reason
from dccf.runner import spec as translation
from dccf.runner.base import AttemptRef
from dccf.runner.engine import Engine, ImageFacts
from dccf.runner.outputs import OutputStore
from dccf.runner.wire import EngineFault, Refused


def create(
    engine: Engine,
    settings: Settings,
    store: OutputStore,
    attempt: AttemptRef,
    spec: JobSpec,
    image: ImageFacts,
    secrets: Mapping[str, SecretStr],
) -> str:
    """Create the container with a writable ``/output``, and check that this is a folder; give its id.

    Raises:
        AttemptFailed: ``invalid_image``.
        EngineUnavailable: the daemon or the worker's machine failed.
    """
    volume = store.prepare(attempt)
    config = translation.container_config(attempt, spec, image, settings, volume, secrets)
    name = translation.name_of(attempt)
    try:
        if store.kind == "tmpfs":
            keeper = translation.keeper_config(attempt, settings.self_test_image, volume)
            engine.start(engine.create(translation.keeper_name_of(attempt), keeper))
        if store.is_daemons:
            _open_from_inside(engine, attempt, image, volume)
            return engine.create(name, config)
        container = engine.create(name, config)
        _check_output(engine, container)
        # The daemon has given it the owner and mode of the folder in the image.
        store.open_to_all(attempt)
    except (Refused, EngineFault) as error:
        raise _whose_fault(engine, attempt, spec, image, error) from error
    return container


def start(engine: Engine, attempt: AttemptRef, spec: JobSpec, image: ImageFacts, container: str) -> None:
    """Start the container.

    Raises:
        AttemptFailed: ``invalid_image``.
        EngineUnavailable: the daemon starts nothing.
    """
    try:
        engine.start(container)
    except (Refused, EngineFault) as error:
        raise _whose_fault(engine, attempt, spec, image, error) from error


def _open_from_inside(engine: Engine, attempt: AttemptRef, image: ImageFacts, volume: Mapping[str, str]) -> None:
    """Make the volume writable through the daemon, with a container that is never started."""
    helper = engine.create(
        translation.helper_name_of(attempt), translation.preparation_config(attempt, image, volume)
    )
    _check_output(engine, helper)
    engine.put_archive(helper, "/", [_output_folder()])
    engine.remove_container(helper)


def _output_folder() -> bytes:
    """Pack an entry that makes ``/output`` writable for whatever user the image runs as."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo(translation.OUTPUT.lstrip("/"))
        member.type, member.mode = tarfile.DIRTYPE, 0o777
        archive.addfile(member)
    return packed.getvalue()


def _check_output(engine: Engine, container: str) -> None:
    try:
        target = engine.link_target(container, translation.OUTPUT)
    except (Refused, EngineFault) as error:
        raise AttemptFailed(
            Reason.INVALID_IMAGE, "/output in the image is not a folder: remove it from the image."
        ) from error
    if target:
        raise AttemptFailed(
            Reason.INVALID_IMAGE, f"/output in the image is a link to {target}: make it a folder, or remove it."
        )


def _whose_fault(
    engine: Engine, attempt: AttemptRef, spec: JobSpec, image: ImageFacts, error: Refused | EngineFault
) -> AttemptFailed | EngineUnavailable:
    """Tell an image that cannot be started from a daemon, or a runtime of it, that starts nothing.

    Of the daemon itself status 4xx blames the image; 5xx may be either (a user that does not exist is a 500), so that
    it is tried whether the same image starts with the daemon's own defaults. A runtime that fails is a 4xx or a 5xx.
    """
    if spec.runtime is not None and not _starts_canary(engine, attempt, image, spec.runtime):
        return EngineUnavailable(f"The runtime {spec.runtime!r} of the worker's daemon starts nothing: {error}")
    if isinstance(error, EngineFault) and not _starts_canary(engine, attempt, image):
        return error
    return AttemptFailed(Reason.INVALID_IMAGE, f"The container could not be started: {error}")


def _starts_canary(engine: Engine, attempt: AttemptRef, image: ImageFacts, runtime: str | None = None) -> bool:
    name = translation.helper_name_of(attempt)
    try:
        engine.remove_container(name)
        canary = engine.create(name, translation.canary_config(attempt, image, runtime))
        engine.start(canary)
        engine.remove_container(canary)
    except Refused:
        # Without a runtime: the daemon works, and finds fault with the image once more.
        return runtime is None
    except EngineUnavailable:
        return False
    return True
