"""Keeps a daemon that is there for DCCF alone from filling up; on any other, only what is ours is ever touched."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Collection
from pathlib import Path

from dccf.errors import EngineUnavailable
from dccf.runner.engine import Engine, parse_time
from dccf.runner.spec import attempt_of
from dccf.runner.wire import Refused

#: What has been of no use for so long is not about to be used.
IDLE_SECONDS = 3600.0


def remove_idle(engine: Engine) -> None:
    """Remove old images without a name, ended containers and unused volumes that belong to no attempt.

    Base images stay: nobody knows which of them the next job names. What an attempt made is its worker's to remove.

    Raises:
        Refused, EngineUnavailable: they cannot be listed.
    """
    latest = time.time() - IDLE_SECONDS
    for item in engine.containers({}):
        is_idle = item["State"] in {"exited", "dead", "created"} and item["Created"] <= latest
        if is_idle and attempt_of(item["Names"], item["Labels"]) is None:
            engine.remove_container(item["Id"])
    for item in engine.unused_volumes():
        is_idle = parse_time(item["CreatedAt"]).timestamp() <= latest
        if is_idle and attempt_of([item["Name"]], item["Labels"] or {}) is None:
            with contextlib.suppress(Refused):  # somebody has begun to use it
                engine.remove_volume(item["Name"])
    for image in engine.nameless_images({}, IDLE_SECONDS):
        with contextlib.suppress(Refused):
            engine.remove_image(image)


def drop_images(engine: Engine, kept: Collection[str]) -> None:
    """Remove all images that no container uses but ``kept``, when the disk is short: bases can be pulled again.

    Raises:
        Refused, EngineUnavailable: they cannot be listed.
    """
    used = {item["ImageID"] for item in engine.containers({})}
    used |= {facts.id for facts in map(engine.image, kept) if facts is not None}
    for image in engine.tagged_images():
        facts = engine.image(image) if image not in used else None
        for tag in facts.tags if facts is not None else ():
            with contextlib.suppress(Refused):
                engine.remove_image(tag)


def require_room(folder: Path, free_bytes: int, make_room: Callable[[], None]) -> None:
    """Make sure that a folder's disk has room, if need be by giving up what is kept for later.

    Raises:
        EngineUnavailable: it has none all the same.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(folder).free >= free_bytes:
        return
    make_room()
    free = shutil.disk_usage(folder).free
    if free < free_bytes:
        raise EngineUnavailable(
            f"The disk of {folder} has {free >> 20} MiB free and needs "
            f"{free_bytes >> 20} MiB, as DCCF_DISK_FREE_BYTES says: make room there."
        )
