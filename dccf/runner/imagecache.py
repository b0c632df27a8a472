"""Keeps built images, so that the same files of the same owner are built once on a worker's daemon.

An image that is kept has one more tag, whose name is a hash of all that went into the build. The daemon notes
when a tag was set last, and setting it again on each use makes that the time of the last use: nothing but the
daemon's own state is needed, and any process may clean up.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dccf.runner.base import ContextFile, StopSignal
from dccf.runner.engine import Engine, ImageFacts
from dccf.runner.spec import IMAGE_REPOSITORY
from dccf.runner.turns import turn
from dccf.runner.wire import Refused

#: An image that was asked for so recently may be about to be run.
IN_USE_SECONDS = 60.0
_PREFIX = f"{IMAGE_REPOSITORY}:cache-"
#: Builds of different images that share a lock wait for each other without need.
_LOCKS = 256


def key_of(
    owner: str, text: str, files: Iterable[ContextFile], bases: Iterable[str], how: Sequence[str]
) -> str | None:
    """Hash all that decides what a build makes; ``None`` when the hash of a file is not known.

    ``how`` is whatever else counts: the builder, the network of the build.
    """
    described = sorted((file.path, file.mode, file.sha256) for file in files)
    if not all(sha256 for _, _, sha256 in described):
        return None
    whole = json.dumps([owner, text, described, sorted(bases), list(how)])
    return hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()


class ImageCache:
    """The kept images of one daemon."""

    def __init__(self, engine: Engine, locks_folder: Path, budget_bytes: int, max_age_seconds: float) -> None:
        self._engine = engine
        self._locks_folder = locks_folder
        self._budget_bytes = budget_bytes
        self._max_age = timedelta(seconds=max_age_seconds)

    @property
    def is_on(self) -> bool:
        """Whether images are kept at all."""
        return self._budget_bytes > 0

    def find(self, key: str) -> str | None:
        """Give the id of a kept image, which counts as used now."""
        image = self._engine.image(_PREFIX + key)
        if image is None:
            return None
        try:
            self._engine.tag(image.id, _PREFIX + key)
        except Refused:  # another process has just removed it
            return None
        return image.id

    def keep(self, key: str, image: str) -> None:
        """Keep an image that was built."""
        self._engine.tag(image, _PREFIX + key)

    @contextlib.contextmanager
    def building(self, key: str, stop: StopSignal, timeout_seconds: float) -> Iterator[None]:
        """Keep other processes of this machine from building the same at the same time.

        Raises:
            AttemptFailed: ``build_timed_out``: the other one took too long.
            AttemptStopped: ``stop`` said so while this one waited.
        """
        path = self._locks_folder / f"{int(key, 16) % _LOCKS}.lock"
        with turn(path, stop, timeout_seconds, "Another job builds the same image"):
            yield

    def trim(self, budget_bytes: int | None = None) -> int:
        """Remove what is over the budget or too old, longest unused first; give how many images went.

        Images that containers use stay. What an image shares with its base costs nothing.
        """
        budget = self._budget_bytes if budget_bytes is None else budget_bytes
        now = datetime.now(UTC)
        images = [self._engine.image(image) for image in self._engine.tagged_images()]
        kept = [image for image in images if image is not None and _tags_of(image)]
        bases = [image for image in images if image is not None and not _tags_of(image)]
        removed = used = 0
        for image in sorted(kept, key=lambda one: one.tagged_at, reverse=True):
            size = _own_bytes(image, bases)
            age = now - image.tagged_at
            if age < timedelta(seconds=IN_USE_SECONDS) or (used + size <= budget and age < self._max_age):
                used += size
            else:
                removed += self._remove(image)
        return removed

    def _remove(self, image: ImageFacts) -> bool:
        try:
            for tag in _tags_of(image):
                self._engine.remove_image(tag)
        except Refused:  # a container uses it
            return False
        return True


def _tags_of(image: ImageFacts) -> list[str]:
    return [tag for tag in image.tags if tag.startswith(_PREFIX)]


def _own_bytes(image: ImageFacts, bases: Iterable[ImageFacts]) -> int:
    shared = [base.size for base in bases if base.layers == image.layers[: len(base.layers)]]
    return image.size - max(shared, default=0)
