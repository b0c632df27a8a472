"""Removes what an attempt made on the daemon, while the daemon may still be at work on it."""

from __future__ import annotations

import time

from dccf.errors import EngineUnavailable
from dccf.runner import spec as translation
from dccf.runner.base import AttemptRef
from dccf.runner.engine import Engine
from dccf.runner.wire import Refused

#: Longest wait for the daemon to let go of something.
REMOVE_SECONDS = 10.0
POLL_SECONDS = 0.05


def remove_containers(engine: Engine, attempt: AttemptRef) -> None:
    """Remove the containers and the volume.

    A volume in use (status 409) means that the daemon was just creating a container for a worker that is dead.

    Raises:
        Refused, EngineUnavailable: they do not go.
    """
    name = translation.name_of(attempt)
    deadline = time.monotonic() + REMOVE_SECONDS
    while True:
        engine.remove_container(name)
        engine.remove_container(translation.helper_name_of(attempt))
        engine.remove_container(translation.keeper_name_of(attempt))
        try:
            engine.remove_volume(name)
        except Refused as error:
            if error.status != 409 or time.monotonic() > deadline:
                raise
            time.sleep(POLL_SECONDS)
        else:
            return


def remove_layers(engine: Engine, attempt: AttemptRef) -> None:
    """Remove the layers and helper containers that a build left, children first.

    The classic builder leaves layers; BuildKit an image without a name when it is cut off at its end. The daemon
    itself clears away after such a build, at the same time. Layers below an image that is kept stay.

    Raises:
        EngineUnavailable: they do not go.
    """
    labels = translation.labels_of(attempt)
    deadline = time.monotonic() + REMOVE_SECONDS
    while left := engine.nameless_images(labels):
        for container in engine.containers(labels):
            engine.remove_container(container["Id"])
        for image in left:
            try:
                engine.remove_image(image)
            except Refused as error:
                if time.monotonic() > deadline:
                    raise EngineUnavailable(f"The Docker daemon does not remove a build's layers: {error}") from error
                time.sleep(POLL_SECONDS)
