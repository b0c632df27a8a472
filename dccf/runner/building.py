"""Builds an attempt's image, and keeps BuildKit's cache from outliving the build without harming those of others."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence

from dccf.config import Settings
from dccf.errors import AttemptFailed, EngineUnavailable
from dccf.models import JobSpec, Reason
from dccf.runner import locks, policy
from dccf.runner import spec as translation
from dccf.runner.apart import OwnStep, of_attempt, set_apart
from dccf.runner.base import AttemptRef, ContextFile, LogSink, StopSignal
from dccf.runner.build import Build, BuildKitProgress, ClassicProgress, Progress, labelled
from dccf.runner.context import DOCKERFILE, tar_stream
from dccf.runner.engine import Engine
from dccf.runner.layercache import OWNER_FILE, LayerCache
from dccf.runner.probe import Capabilities, builder_for

#: Dropping the cache takes some 0.1 s; who has waited this long for it goes on.
LOCK_SECONDS = 10.0
POLL_SECONDS = 0.02


class ImageBuilder:
    """Builds on one daemon, for one process."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._settings = settings
        self._lock = settings.state_folder / "builds" / "build.lock"
        self._layers = LayerCache(engine, settings.state_folder / "builds", settings.layer_cache_bytes)
        #: Another process may have died before it dropped the cache.
        self._may_have_cache = True

    def build(
        self,
        capabilities: Capabilities,
        attempt: AttemptRef,
        spec: JobSpec,
        checked: policy.Checked,
        files: Sequence[ContextFile],
        log: LogSink,
        stop: StopSignal,
        network: str,
        layers_of: str | None,
    ) -> str:
        """Build a Dockerfile that was checked, with this network for RUN; give the image's id.

        ``layers_of`` is the owner whose kept layers it may use and add to, if any.

        Raises:
            AttemptFailed, AttemptStopped, EngineUnavailable: as :meth:`dccf.runner.base.Runner.build` says.
        """
        builder, owner_id = builder_for(capabilities, checked.dockerfile)
        parameters = translation.build_parameters(attempt, spec, network, builder)
        packed = []
        self._may_have_cache = True
        with self._first_step(attempt, spec, stop, layers_of if builder == "buildkit" else None) as step:
            progress: Progress
            if builder == "classic":
                text = labelled(checked.text, checked.dockerfile, translation.labels_of(attempt))
                progress = ClassicProgress(checked.dockerfile, log)
            else:
                text = set_apart(checked.text, checked.dockerfile, step)
                progress = BuildKitProgress(checked.dockerfile, log, apart=step)
            if step.source == OWNER_FILE:
                packed.append((OWNER_FILE, b""))
                del parameters["nocache"]
            packed.append((DOCKERFILE, text.encode("utf-8", "surrogateescape")))
            sent = tar_stream(packed, files, stop, owner_id=owner_id)
            image = Build(self._engine, parameters, sent, progress).run(stop, spec.build_timeout_seconds)
        self._check(image)
        return image

    def keeps_layers(self, capabilities: Capabilities) -> bool:
        """Whether layers outlive their build: on a daemon of our own only, where they can be dropped again."""
        return self._layers.is_on and capabilities.builder == "buildkit" and capabilities.is_exclusive

    def drop_after_build(self, capabilities: Capabilities) -> None:
        """Drop what builds of this process may have left in the cache, unless layers are kept.

        Raises:
            Refused, EngineUnavailable: the daemon does not.
        """
        if self._may_have_cache and not self.keeps_layers(capabilities):
            self.drop_cache(capabilities)

    def tidy_cache(self, capabilities: Capabilities) -> None:
        """Drop the cache, unless layers are kept and within their budget.

        Raises:
            Refused, EngineUnavailable: the daemon does not.
        """
        if not self.keeps_layers(capabilities) or self._layers.is_over_budget():
            self.drop_cache(capabilities)

    def drop_cache(self, capabilities: Capabilities) -> None:
        """Drop BuildKit's cache on a daemon of our own, unless somebody builds: his build needs it.

        Whoever builds last does it then, or the next look of the keeper.

        Raises:
            Refused, EngineUnavailable: the daemon does not.
        """
        if capabilities.builder != "buildkit" or not capabilities.is_exclusive:
            return
        with locks.held(self._lock) as nobody_builds:
            if nobody_builds:
                if self._layers.is_on:
                    self._layers.begin_anew()
                self._engine.prune_build_cache()
                self._may_have_cache = False

    @contextlib.contextmanager
    def _first_step(
        self, attempt: AttemptRef, spec: JobSpec, stop: StopSignal, layers_of: str | None
    ) -> Iterator[OwnStep]:
        """Keep other processes from dropping the cache meanwhile; give the step that sets the build apart."""
        if layers_of is None:
            with self._building():
                yield of_attempt(translation.name_of(attempt))
            return
        with self._layers.turn_of(layers_of, stop, spec.build_timeout_seconds), self._building():
            yield self._layers.step_of(layers_of)

    @contextlib.contextmanager
    def _building(self) -> Iterator[None]:
        """Keep other processes from dropping the cache meanwhile."""
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            with locks.held(self._lock, shared=True) as is_held:
                if is_held or time.monotonic() > deadline:
                    yield
                    return
            time.sleep(POLL_SECONDS)

    def _check(self, image: str) -> None:
        facts = self._engine.image(image)
        if facts is None:
            raise EngineUnavailable(f"The Docker daemon has lost the image {image}.")
        if facts.size > self._settings.image_limit_bytes:
            raise AttemptFailed(
                Reason.INVALID_IMAGE,
                f"The image has {facts.size} bytes; {self._settings.image_limit_bytes} are allowed. "
                "Start from a smaller image, or remove files in the RUN that makes them.",
            )
        if not facts.has_command:
            raise AttemptFailed(
                Reason.INVALID_IMAGE, "The image says not what to execute: add CMD or ENTRYPOINT to the Dockerfile."
            )
