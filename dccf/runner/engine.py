"""Docker's API as far as the runner needs it: typed, with time limits, and with our errors only.

How errors come out (decided by type and status code, never by text):

- 4xx: :class:`~dccf.runner.wire.Refused`, which callers turn into the attempt's reason
- 5xx: :class:`~dccf.runner.wire.EngineFault`, an ``EngineUnavailable``
- no answer, or one that makes no sense: ``EngineUnavailable``
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dccf.errors import EngineUnavailable
from dccf.runner.sdk import SdkClient, mapped_errors
from dccf.runner.wire import API_VERSION, Exchange, Refused

#: Longest wait for any answer that is not a stream.
ANSWER_SECONDS = 60.0
#: Longest wait for a container that somebody else is removing.
REMOVE_SECONDS = 10.0
_POLL_SECONDS = 0.05
_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class ContainerState:
    """What the daemon says of a container's life; ``finished_at`` means nothing while it runs."""

    is_running: bool
    exit_code: int
    is_oom_killed: bool
    error: str
    started_at: datetime
    finished_at: datetime

    @property
    def has_started(self) -> bool:
        """Whether it was ever started; the daemon's time of a start that never was is the year 1."""
        return self.started_at.year > 1


@dataclass(frozen=True)
class ImageFacts:
    """What of an image's configuration decides how it is run."""

    id: str
    size: int
    volumes: tuple[str, ...] = ()
    on_build: tuple[str, ...] = ()
    has_command: bool = True
    user: str = ""
    tags: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    #: When one of its tags was set last.
    tagged_at: datetime = _NEVER


class Engine:
    """One daemon. Connections are made when needed and per process, so it may be carried over a fork."""

    def __init__(self, docker_url: str, timeout_seconds: float = ANSWER_SECONDS) -> None:
        self.docker_url = docker_url
        self._timeout_seconds = timeout_seconds
        self._client: Any = None
        self._client_pid = 0

    @property
    def client(self) -> Any:
        """The SDK's client of this process."""
        if self._client_pid != os.getpid():
            with mapped_errors():
                self._client = SdkClient(self.docker_url, version=API_VERSION, timeout_seconds=self._timeout_seconds)
            self._client_pid = os.getpid()
            # Sockets that are left to the garbage collector make warnings.
            weakref.finalize(self, self._client.close)
        return self._client

    def exchange(self, timeout_seconds: float | None = None) -> Exchange:
        """Open a streamed exchange; without a time limit unless told otherwise."""
        return Exchange(self.docker_url, timeout_seconds)

    def info(self) -> dict[str, Any]:
        """Ask the daemon about itself and its machine."""
        return self.ask("/info")

    def version(self) -> dict[str, Any]:
        """Ask the daemon for its version and its API's; the cheapest question, to be asked first."""
        return self.ask("/version")

    def ask(self, path: str, parameters: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Ask for an object; also from a daemon that is away, where the SDK would leave a socket open."""
        with self.exchange(self._timeout_seconds) as exchange:
            exchange.request("GET", path, parameters or {})
            answer = b"".join(iter(exchange.read, b""))
        try:
            return dict(json.loads(answer))
        except (ValueError, TypeError) as error:
            raise EngineUnavailable(f"What answers at {self.docker_url} is no Docker daemon.") from error

    def create(self, name: str, config: Mapping[str, Any]) -> str:
        """Create a container from an API configuration, and give its id."""
        with mapped_errors():
            return str(self.client.create_container_from_config(dict(config), name)["Id"])

    def start(self, container: str) -> None:
        """Start a container."""
        with mapped_errors():
            self.client.start(container)

    def wait(self, container: str) -> None:
        """Wait without limit until a started container has ended."""
        with mapped_errors():
            self.client.wait(container, timeout=None)

    def kill(self, container: str) -> None:
        """Kill a container; one that has ended or is gone is fine."""
        try:
            with mapped_errors():
                self.client.kill(container, signal="SIGKILL")
        except Refused as error:
            if error.status not in {404, 409}:
                raise

    def state(self, container: str) -> ContainerState:
        """Ask how a container is."""
        with mapped_errors():
            state = self.client.inspect_container(container)["State"]
        return ContainerState(
            is_running=bool(state["Running"]),
            exit_code=int(state["ExitCode"]),
            is_oom_killed=bool(state["OOMKilled"]),
            error=str(state["Error"]),
            started_at=parse_time(state["StartedAt"]),
            finished_at=parse_time(state["FinishedAt"]),
        )

    def has_event(self, container: str, event: str) -> bool:
        """Tell whether the daemon has an event of a container among its last 256, or within a second or two."""
        now = int(time.time()) + 1
        wanted = json.dumps({"container": [container], "event": [event]})
        with self.exchange(self._timeout_seconds) as exchange:
            exchange.request("GET", "/events", {"since": "0", "until": str(now), "filters": wanted})
            return any(iter(exchange.read, b""))

    def containers(self, labels: Mapping[str, str]) -> list[dict[str, Any]]:
        """List containers in any state that carry all these labels."""
        wanted = [f"{key}={value}" for key, value in labels.items()]
        with mapped_errors():
            return list(self.client.containers(all=True, filters={"label": wanted} if wanted else {}))

    def remove_container(self, container: str) -> None:
        """Kill and remove a container with its anonymous volumes; one that is gone is fine.

        Status 409 means that somebody else removes it at this moment; it is gone in any case on return.
        """
        deadline = time.monotonic() + REMOVE_SECONDS
        while True:
            try:
                with _absent_is_fine(), mapped_errors():
                    self.client.remove_container(container, v=True, force=True)
            except Refused as error:
                if error.status != 409 or time.monotonic() > deadline:
                    raise
                time.sleep(_POLL_SECONDS)
            else:
                return

    def named(self, labels: Mapping[str, str]) -> Iterator[tuple[list[str], dict[str, str]]]:
        """Yield the names and labels of all containers, volumes and tagged images that carry all these labels."""
        wanted = {"label": [f"{key}={value}" for key, value in labels.items()]}
        with mapped_errors():
            found = [(item.get("Names"), item.get("Labels")) for item in self.containers(labels)]
            volumes = self.client.volumes(filters=wanted).get("Volumes") or []
            found += [([item["Name"]], item.get("Labels")) for item in volumes]
            found += [(item.get("RepoTags"), item.get("Labels")) for item in self.client.images(filters=wanted)]
        for names, labels_found in found:
            yield list(names or ()), dict(labels_found or {})

    def unused_volumes(self) -> list[dict[str, Any]]:
        """List the volumes that no container has."""
        with mapped_errors():
            return list(self.client.volumes(filters={"dangling": ["true"]}).get("Volumes") or ())

    def volume_options(self, name: str) -> dict[str, str]:
        """Give the options that a volume was made with.

        Raises:
            Refused: there is none (status 404).
        """
        with mapped_errors():
            return dict(self.client.inspect_volume(name).get("Options") or {})

    def remove_volume(self, name: str) -> None:
        """Remove a volume; one that is gone is fine."""
        with _absent_is_fine(), mapped_errors():
            self.client.remove_volume(name)

    def remove_image(self, name: str) -> None:
        """Remove a tag, and the image when it was its last; one that is gone is fine."""
        with _absent_is_fine(), mapped_errors():
            self.client.remove_image(name)

    def nameless_images(self, labels: Mapping[str, str], min_age_seconds: float = 0) -> list[str]:
        """List the ids of nameless images and layers, with nothing above them, that carry all these labels."""
        wanted = [f"{key}={value}" for key, value in labels.items()]
        with mapped_errors():
            found = self.client.images(filters={"dangling": True, **({"label": wanted} if wanted else {})})
        latest = time.time() - min_age_seconds
        return [str(item["Id"]) for item in found if item["Created"] <= latest or not min_age_seconds]

    def image(self, name: str) -> ImageFacts | None:
        """Look an image up, or give ``None`` when it is not here."""
        try:
            with mapped_errors():
                image = self.client.inspect_image(name)
        except Refused as error:
            if error.status != 404:
                raise
            return None
        config = image.get("Config") or {}
        return ImageFacts(
            id=str(image["Id"]),
            size=int(image["Size"]),
            volumes=tuple(config.get("Volumes") or ()),
            on_build=tuple(config.get("OnBuild") or ()),
            has_command=bool(config.get("Cmd") or config.get("Entrypoint")),
            user=str(config.get("User") or ""),
            tags=tuple(image.get("RepoTags") or ()),
            layers=tuple((image.get("RootFS") or {}).get("Layers") or ()),
            tagged_at=parse_time(image["Metadata"]["LastTagTime"]),
        )

    def tag(self, image: str, name: str) -> None:
        """Set a tag, which may have been there before."""
        repository, _, tag = name.rpartition(":")
        with mapped_errors():
            self.client.tag(image, repository, tag)

    def tagged_images(self) -> list[str]:
        """List the ids of all images that have a name."""
        with mapped_errors():
            return [str(item["Id"]) for item in self.client.images(filters={"dangling": False})]

    def link_target(self, container: str, path: str) -> str:
        """Say where a path in a container leads if it is a link, else give an empty text.

        Raises:
            Refused, EngineFault: there is no such path, or it cannot be a folder.
        """
        with self.exchange(self._timeout_seconds) as exchange:
            exchange.request("HEAD", f"/containers/{container}/archive", {"path": path})
            packed = exchange.header("X-Docker-Container-Path-Stat")
        try:
            return str(json.loads(base64.b64decode(packed))["linkTarget"])
        except (ValueError, KeyError, TypeError) as error:
            raise EngineUnavailable(f"The Docker daemon describes {path} in a way that makes no sense") from error

    def put_archive(self, container: str, path: str, archive: Iterable[bytes]) -> None:
        """Unpack a tar archive in a container's file system."""
        with self.exchange(self._timeout_seconds) as exchange:
            exchange.request("PUT", f"/containers/{container}/archive", {"path": path}, archive)

    def execute(self, container: str, command: Sequence[str]) -> bytes:
        """Execute a command in a running container, and give all that it prints."""
        with mapped_errors():
            made = self.client.exec_create(container, list(command), tty=True)
        with self.exchange(self._timeout_seconds) as exchange:
            options = [json.dumps({"Detach": False, "Tty": True}).encode()]
            exchange.request("POST", f"/exec/{made['Id']}/start", {}, options, {"Content-Type": "application/json"})
            return b"".join(iter(exchange.read, b""))

    def build_cache_bytes(self) -> int:
        """Give the disk that BuildKit's cache takes, beyond what images take anyway."""
        with mapped_errors():
            return sum(int(item["Size"]) for item in self.client.df()["BuildCache"] or () if not item["Shared"])

    def prune_build_cache(self) -> None:
        """Drop BuildKit's whole cache; for a daemon of our own only."""
        with mapped_errors():
            # The SDK's prune_builds cannot ask for all of the cache.
            self.client._result(self.client._post(self.client._url("/build/prune"), params={"all": "1"}))


@contextlib.contextmanager
def _absent_is_fine() -> Iterator[None]:
    try:
        yield
    except Refused as error:
        if error.status != 404:
            raise


def parse_time(text: str) -> datetime:
    """Read the daemon's time, which has nanoseconds and ends in Z or an offset."""
    seconds, _, rest = text.partition(".")
    if rest:
        digits = rest.rstrip("Z").split("+")[0].split("-")[0]
        offset = rest[len(digits) :]
        text = f"{seconds}.{digits[:6]:0<6}{offset}"
    return datetime.fromisoformat(text).astimezone(UTC)
