"""Has the base images of a build in place before it starts, each within a time limit.

The daemon is never left to pull during a build: that could neither be limited nor told apart from the
build, and sessionless BuildKit cannot pull from registries that want a token (measured).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from dccf.config import Settings
from dccf.errors import AttemptFailed, AttemptStopped, EngineUnavailable
from dccf.fields import MIB
from dccf.models import Reason, Stream
from dccf.runner import registry
from dccf.runner.base import LogSink, StopSignal
from dccf.runner.engine import Engine, ImageFacts
from dccf.runner.pulling import PullProgress
from dccf.runner.references import normalised
from dccf.runner.wire import EngineFault, Refused

POLL_SECONDS = 0.05
#: How often the log says how far a pull is.
WORD_SECONDS = 2.0
_CUT_SECONDS = 30.0


def ensure(
    engine: Engine, images: Iterable[tuple[int, str]], log: LogSink, stop: StopSignal, settings: Settings
) -> list[tuple[int, str, ImageFacts]]:
    """Pull those of the images that are not here, and describe all of them.

    Raises:
        AttemptFailed: ``image_not_found``, ``pull_failed``, ``pull_timed_out``; ``invalid_image``: one is too large.
        AttemptStopped: ``stop`` said so.
    """
    found = []
    for line, name in images:
        facts = engine.image(name)
        if facts is None:
            log.write(Stream.BUILD_STDOUT, f"pulling {normalised(name)}\n".encode())
            auth = _auth(settings.registry_auth_file, line, name)
            _Pull(engine, line, name, auth).run(log, stop, settings.pull_timeout_seconds, settings.pull_limit_bytes)
            facts = engine.image(name)
            if facts is not None and facts.size > settings.image_limit_bytes:
                engine.remove_image(name)
                raise _too_large(line, name, "unpacked", settings.image_limit_bytes)
        if facts is None:
            raise AttemptFailed(Reason.PULL_FAILED, f"line {line}: the image {name} was pulled and is not here.")
        found.append((line, name, facts))
    return found


def _auth(auth_file: Path | None, line: int, name: str) -> dict[str, str]:
    try:
        return registry.header_for(auth_file, normalised(name))
    except registry.UnusableAuthFile as error:
        raise AttemptFailed(
            Reason.PULL_FAILED,
            f"line {line}: the image {name} cannot be pulled: DCCF_REGISTRY_AUTH_FILE is not as it must be: {error}.",
        ) from error


def _too_large(line: int, name: str, what: str, limit_bytes: int) -> AttemptFailed:
    return AttemptFailed(
        Reason.INVALID_IMAGE,
        f"line {line}: the image {name} is too large: {limit_bytes / MIB:g} MiB {what} are allowed. Use another.",
    )


class _Pull:
    """One pull in a thread of its own, which can be cut off at any time."""

    def __init__(self, engine: Engine, line: int, name: str, auth: Mapping[str, str]) -> None:
        self._engine = engine
        self._exchange = engine.exchange()
        self._line = line
        self._name = name
        self._auth = auth
        self._error: EngineUnavailable | Refused | None = None
        self._progress = PullProgress()
        self._ended = threading.Event()

    def run(self, log: LogSink, stop: StopSignal, timeout_seconds: float, limit_bytes: int) -> None:
        threading.Thread(target=self._pull, name="dccf-pull", daemon=True).start()
        now = time.monotonic()
        deadline, next_word = now + timeout_seconds, now + WORD_SECONDS
        while not self._ended.wait(POLL_SECONDS):
            cause, now = stop.cause(), time.monotonic()
            is_too_large = self._progress.known_bytes > limit_bytes
            if now >= next_word and self._progress.known_bytes:
                log.write(Stream.BUILD_STDOUT, f"{self._words()}\n".encode())
                next_word = now + WORD_SECONDS
            if cause is None and now < deadline and not is_too_large:
                continue
            self._exchange.cut()
            self._ended.wait(_CUT_SECONDS)
            if cause is not None:
                raise AttemptStopped(cause)
            if is_too_large:
                raise _too_large(self._line, self._name, "to pull", limit_bytes)
            raise AttemptFailed(
                Reason.PULL_TIMED_OUT,
                f"line {self._line}: pulling the image {self._name} took longer than {timeout_seconds:g} s "
                f"({self._words()}).",
            )
        if self._progress.known_bytes > limit_bytes:  # it came faster than it was looked at
            self._engine.remove_image(self._name)
            raise _too_large(self._line, self._name, "to pull", limit_bytes)
        self._raise_outcome()

    def _words(self) -> str:
        done, known = (f"{size / MIB:.1f}" for size in (self._progress.done_bytes, self._progress.known_bytes))
        return f"pulling {self._name}: {done} of {known} MiB"

    def _raise_outcome(self) -> None:
        """Say what became of it, by status: 404 is the registry's word that there is no such image.

        The daemon answers 404 when the registry says that there is no such repository or tag, or that one may not
        know; 500 when it does not reach the registry; and once it has begun to answer, no status at all.
        """
        where = f"line {self._line}: the image {self._name}"
        who = f"{'with the' if self._auth else 'without a'} password for {registry.host_of(normalised(self._name))}"
        if isinstance(self._error, Refused):
            if self._error.status in {400, 404}:
                raise AttemptFailed(
                    Reason.IMAGE_NOT_FOUND, f"{where} does not exist (asked {who}): {self._error.message}"
                ) from self._error
            raise AttemptFailed(
                Reason.PULL_FAILED, f"{where} cannot be pulled {who}: {self._error.message}"
            ) from self._error
        if isinstance(self._error, EngineFault):
            raise AttemptFailed(Reason.PULL_FAILED, f"{where} cannot be pulled {who}: {self._error}") from self._error
        if self._error is not None:
            raise self._error
        if self._progress.error:
            raise AttemptFailed(Reason.PULL_FAILED, f"{where} cannot be pulled {who}: {self._progress.error}")

    def _pull(self) -> None:
        name, at, digest = normalised(self._name).partition("@")
        repository, _, tag = (name, "", digest) if at else name.rpartition(":")
        try:
            with self._exchange:
                self._exchange.request(
                    "POST", "/images/create", {"fromImage": repository, "tag": tag}, headers=self._auth
                )
                while data := self._exchange.read():
                    self._progress.feed(data)
        except (EngineUnavailable, Refused) as error:
            self._error = error
        finally:
            self._ended.set()
