"""The runner on Docker: drives one attempt after another through one daemon.

Nothing is kept between calls but what the daemon keeps under the attempt's name and labels, so any
process may go on where another stopped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from dccf.config import Settings
from dccf.errors import AttemptStopped, EngineUnavailable
from dccf.models import JobSpec, StopCause, Stream
from dccf.runner import (
    admission,
    cleaning,
    endings,
    hints,
    housekeeping,
    imagecache,
    images,
    policy,
    resuming,
    secrets,
    sources,
    starting,
    walk,
    watchdog,
)
from dccf.runner import collect as collecting
from dccf.runner import spec as translation
from dccf.runner.base import AttemptRef, ContextFile, EngineInfo, Exit, LogSink, OutputFile, StopSignal
from dccf.runner.building import ImageBuilder
from dccf.runner.dockerfile import Grammar
from dccf.runner.engine import Engine, ImageFacts
from dccf.runner.firewall import Firewall
from dccf.runner.imagecache import ImageCache
from dccf.runner.keptlog import KeptLog
from dccf.runner.logs import LogReader
from dccf.runner.outputs import OutputStore, store_of
from dccf.runner.probe import PROBE_LABELS, Capabilities, choose_store, identity_of, probe, unusable
from dccf.runner.sinks import OutputSink
from dccf.runner.watchdog import Verdict
from dccf.runner.wire import Refused

#: Longest wait for the rest of the output of a container that has ended.
DRAIN_SECONDS = 60.0
#: A nameless image that is younger may be about to get its name.
NAMELESS_SECONDS = 60.0


class DockerRunner:
    """Fulfils :class:`dccf.runner.base.Runner` on the daemon at ``settings.docker_url``.

    It may be made before a fork: connections are opened when they are needed, in the process that needs them.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._engine = Engine(settings.docker_url)
        self._capabilities: Capabilities | None = None
        self._store: OutputStore | None = None
        self._images = ImageCache(
            self._engine,
            settings.state_folder / "builds",
            settings.image_cache_bytes,
            settings.image_cache_seconds,
        )
        self._builder = ImageBuilder(self._engine, settings)
        self._firewall = Firewall(self._engine, settings)

    @property
    def store_kind(self) -> str:
        """Which kind of store ``/output`` lies in."""
        return self._known_store().kind

    def check(self) -> EngineInfo:
        """Ask the daemon who it is; see :meth:`dccf.runner.base.Runner.check`."""
        known, info = self._capabilities, self._info()
        if known is None or identity_of(info) != known.identity:
            known, self._store = probe(self._engine), None
            self._capabilities = known
        self._known_store()
        data = Path(str(info.get("DockerRootDir", "")))
        # Where the daemon's folder is out of sight the worker's own counts, which is on the same disk as a rule.
        folder = data if data.is_absolute() and data.is_dir() else self._settings.state_folder
        housekeeping.require_room(folder, self._settings.disk_free_bytes, self.drop_kept_images)
        return EngineInfo("docker", known.version, known.builder, known.warnings)

    def build(
        self,
        attempt: AttemptRef,
        spec: JobSpec,
        context: Iterable[ContextFile],
        log: LogSink,
        stop: StopSignal,
        owner: str | None = None,
    ) -> str:
        """Check, pull and build; see :meth:`dccf.runner.base.Runner.build`.

        The files of the context are listed first and then read one by one, the Dockerfile and
        ``.dockerignore`` before all others.
        """
        admission.check(self._engine, self._settings, spec, owner)
        admission.check_firewall(self._firewall, self._settings, spec)
        capabilities = self._known_capabilities()
        source = sources.read(context, self._settings, Grammar(heredocs=capabilities.heredocs))
        checked, sent = source.checked, source.files
        for note in checked.notes:
            log.write(Stream.BUILD_STDERR, f"{note}\n".encode())
        network = admission.build_network(self._firewall, self._settings, log)
        bases = images.ensure(self._engine, checked.images, log, stop, self._settings)
        for line, name, facts in bases:
            policy.check_triggers(name, line, facts.on_build)
        layers_of = key = None
        # What a base image triggers comes before any step of the build's own, so that owners would share it.
        if spec.reuse_image and self._builder.keeps_layers(capabilities) and not any(f.on_build for *_, f in bases):
            layers_of = owner
        if owner is not None and spec.reuse_image and self._images.is_on:
            how = (capabilities.builder, network)
            key = imagecache.key_of(owner, checked.text, sent, (facts.id for _, _, facts in bases), how)
        if key is None:
            return self._builder.build(capabilities, attempt, spec, checked, sent, log, stop, network, layers_of)
        with self._images.building(key, stop, spec.build_timeout_seconds):
            image = self._images.find(key)
            if image is not None:
                log.write(
                    Stream.BUILD_STDOUT, b"this worker has built the same files before; the image is used again\n"
                )
                return image
            image = self._builder.build(capabilities, attempt, spec, checked, sent, log, stop, network, layers_of)
            self._images.keep(key, image)
            return image

    def run(
        self,
        attempt: AttemptRef,
        spec: JobSpec,
        image: str,
        log: LogSink,
        stop: StopSignal,
        owner: str | None = None,
    ) -> Exit:
        """Run a built image to its end; see :meth:`dccf.runner.base.Runner.run`."""
        facts = self._engine.image(image)
        if facts is None:
            raise EngineUnavailable(f"The Docker daemon has lost the image {image}.")
        store = self._known_store()
        values = secrets.read(self._settings.secrets_folder, owner, spec.secrets)
        container = starting.create(self._engine, self._settings, store, attempt, spec, facts, values)
        output = OutputSink(log, values.values())
        reader = LogReader(self._engine, container, output, self._settings.log_limit_bytes)
        verdict, is_complete = Verdict(), False
        try:
            starting.start(self._engine, attempt, spec, facts, container)
            verdict = watchdog.watch(
                self._engine,
                container,
                stop,
                reader.limit_exceeded,
                spec.timeout_seconds,
                self._disk_limit_bytes(spec),
            )
            is_complete = verdict.stopped is not StopCause.ORPHANED and reader.finish(DRAIN_SECONDS)
        finally:
            reader.finish(0)
            if verdict.stopped is not StopCause.ORPHANED:  # whoever goes on reads all of it again
                output.finish()
        return self._exit(attempt, spec, verdict, facts, output.end(), is_log_complete=is_complete)

    def is_resumable(self, attempt: AttemptRef) -> bool:
        """Tell whether a container was started and is here; see :meth:`dccf.runner.base.Runner.is_resumable`."""
        return resuming.is_started(self._engine, attempt)

    def resume(self, attempt: AttemptRef, spec: JobSpec, log: LogSink, stop: StopSignal) -> Exit:
        """Watch a container that another process has started; see :meth:`dccf.runner.base.Runner.resume`."""
        self._store = resuming.find_store(self._engine, self._settings, attempt)
        container = translation.name_of(attempt)
        output = OutputSink(log, secrets.given_to(self._engine, container, spec.secrets).values())
        kept = KeptLog(self._engine, container, output, self._settings.log_limit_bytes)
        try:
            verdict, is_complete = resuming.see_through(
                self._engine, container, kept, stop, spec.timeout_seconds, self._disk_limit_bytes(spec)
            )
        finally:
            output.finish()
        facts = self._engine.image(translation.tag_of(attempt))
        return self._exit(attempt, spec, verdict, facts, output.end(), is_log_complete=is_complete)

    def _disk_limit_bytes(self, spec: JobSpec) -> int | None:
        return self._settings.rootfs_limit_bytes if spec.profile == "compat" else None

    def _exit(
        self,
        attempt: AttemptRef,
        spec: JobSpec,
        verdict: Verdict,
        facts: ImageFacts | None,
        last_words: bytes,
        *,
        is_log_complete: bool,
    ) -> Exit:
        if verdict.stopped is not None:
            raise AttemptStopped(verdict.stopped)
        name = translation.name_of(attempt)
        state = endings.state_of(self._engine, name, is_explained=verdict.reason is not None)
        return endings.exit_of(
            state,
            verdict.reason,
            spec,
            self._settings,
            is_log_complete=is_log_complete,
            is_output_full=state.exit_code != 0
            and endings.is_output_full(self._engine, self._known_store(), attempt),
            hint=hints.about_profile(spec, self._settings, facts, last_words) if facts is not None else "",
        )

    def collect(self, attempt: AttemptRef, spec: JobSpec) -> Iterator[OutputFile]:
        """Yield what the container left; see :meth:`dccf.runner.base.Runner.collect`."""
        del spec
        store = self._known_store()
        folder = store.folder(attempt)
        if folder is not None:
            yield from walk.files_in(folder, store.limits)
            return
        try:
            yield from collecting.collect(self._engine, translation.name_of(attempt), store.limits)
        except Refused as error:
            raise EngineUnavailable(f"The Docker daemon does not give out /output: {error}") from error

    def remove(self, attempt: AttemptRef) -> None:
        """Remove an attempt's container, volume and image; see :meth:`dccf.runner.base.Runner.remove`."""
        try:
            cleaning.remove_containers(self._engine, attempt)
            # What is of another kind, from before a change of settings, goes as well.
            store_of(self._settings, "archive").remove(attempt)
            self._engine.remove_image(translation.tag_of(attempt))
            cleaning.remove_layers(self._engine, attempt)
            self._builder.drop_after_build(self._known_capabilities())
        except Refused as error:
            raise EngineUnavailable(f"The Docker daemon does not remove an attempt: {error}") from error

    def attempts(self, worker: str) -> list[AttemptRef]:
        """List the attempts that still have something here; see :meth:`dccf.runner.base.Runner.attempts`."""
        wanted = {translation.MANAGED_LABEL: "true", translation.WORKER_LABEL: worker}
        try:
            found = [translation.attempt_of(names, labels) for names, labels in self._engine.named(wanted)]
        except Refused as error:
            raise EngineUnavailable(f"The Docker daemon does not list its objects: {error}") from error
        found += store_of(self._settings, "archive").attempts(worker)
        return list(dict.fromkeys(attempt for attempt in found if attempt is not None))

    def tidy(self) -> None:
        """Keep the kept images within their budget; see :meth:`dccf.runner.base.Runner.tidy`."""
        try:
            self._images.trim()
            ours = {translation.MANAGED_LABEL: "true", translation.WORKER_LABEL: self._settings.worker_name}
            # With the classic builder these are the layers of builds that go on.
            left = [PROBE_LABELS, ours] if self._known_capabilities().builder == "buildkit" else [PROBE_LABELS]
            for labels in left:
                for image in self._engine.nameless_images(labels, NAMELESS_SECONDS):
                    self._engine.remove_image(image)
            self._builder.tidy_cache(self._known_capabilities())
            if self._known_capabilities().is_exclusive:
                housekeeping.remove_idle(self._engine)
        except Refused as error:
            raise EngineUnavailable(f"The Docker daemon does not remove what is old: {error}") from error

    def drop_kept_images(self) -> None:
        """Remove all kept images that nobody uses, when the disk is short; on a daemon of our own bases as well."""
        try:
            self._images.trim(0)
            self._builder.drop_cache(self._known_capabilities())
            if self._known_capabilities().is_exclusive:
                housekeeping.drop_images(self._engine, [self._settings.self_test_image])
        except Refused as error:
            raise EngineUnavailable(f"The Docker daemon does not remove kept images: {error}") from error

    def _info(self) -> dict[str, Any]:
        try:
            return self._engine.info()
        except EngineUnavailable as error:
            raise unusable(self._engine, error) from error
        except Refused as error:
            raise EngineUnavailable(f"The Docker daemon does not describe itself: {error}") from error

    def _known_store(self) -> OutputStore:
        if self._store is None:
            self._store = choose_store(self._engine, self._known_capabilities().builder, self._settings)
        return self._store

    def _known_capabilities(self) -> Capabilities:
        if self._capabilities is None:
            self._capabilities = probe(self._engine)
        return self._capabilities
