"""The broker of ``dccf up``: one that is named, a Kafka of our own, or a folder."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from celery import Celery
from kombu.exceptions import KombuError

from dccf import errors, transport
from dccf.local.kafka import KafkaCluster
from dccf.local.kafka_errors import JavaMissingError, KafkaDownloadError, KafkaStartError
from dccf.local.kafka_install import default_cache_dir, ensure_jars, require_java

Asked = Literal["auto", "kafka", "file"]
_URL = "DCCF_BROKER_URL"
_RESEND = "DCCF_HINT_RESEND_SECONDS"
_CONNECT_SECONDS = 5
_LOOK_SECONDS = 1.0
_NAMES = {"kafka": "a Kafka of our own", "file": "files in the state folder"}


@dataclass(frozen=True)
class Choice:
    """Which broker it is to be, and why; ``url`` only for one that is named."""

    kind: Literal["named", "kafka", "file"]
    reason: str
    url: str = ""

    @property
    def masked_url(self) -> str:
        """The URL without its password."""
        with _application(self.url).connection_for_write() as connection:
            return str(connection.as_uri())


def choose(asked: Asked, environ: Mapping[str, str]) -> Choice:
    """Take what was asked for; with ``auto`` the named broker, else Kafka where it can run, else the folder."""
    if asked == "file":
        return Choice("file", "--broker file asks for it")
    if asked == "kafka":
        return Choice("kafka", "--broker kafka asks for it")
    if environ.get(_URL):
        return Choice("named", f"{_URL} names it", environ[_URL])
    try:
        require_java()
        ensure_jars(default_cache_dir())
    except (JavaMissingError, KafkaDownloadError) as error:
        return Choice("file", f"no Kafka here: {error}")
    return Choice("kafka", "Java and Kafka's jars are here")


@contextmanager
def running(choice: Choice, folder: Path) -> Iterator[dict[str, str]]:
    """Have the broker while the block lasts; give the settings that name it.

    Raises:
        LocalStackError: a named broker does not answer, or Kafka does not start.
    """
    if choice.kind == "named":
        _require_answer(choice)
        yield {_URL: choice.url}
    elif choice.kind == "kafka":
        with _kafka(folder / "kafka") as url:
            # Hints that another broker had, before it was Kafka's turn, are not waited for long.
            yield {_URL: url, _RESEND: os.environ.get(_RESEND, "60")}
    else:
        files = folder / "broker"
        for name in ("messages", "control"):
            (files / name).mkdir(parents=True, exist_ok=True)
        yield {
            _URL: "filesystem://localhost",
            "DCCF_BROKER_FOLDER": str(files),
            # The file broker may lose a hint, so it is sent again sooner.
            _RESEND: os.environ.get(_RESEND, "5"),
        }


def describe(choice: Choice) -> str:
    """Name the broker and the reason for it in one line, without a password."""
    name = choice.masked_url if choice.kind == "named" else _NAMES[choice.kind]
    return f"{name} ({choice.reason})"


def _application(url: str) -> Celery:
    transport.register()
    return Celery(broker=url, set_as_current=False)


def _require_answer(choice: Choice) -> None:
    with _application(choice.url).connection_for_write(connect_timeout=_CONNECT_SECONDS) as connection:
        failures = (KombuError, OSError, *connection.connection_errors, *connection.channel_errors)
        try:
            connection.ensure_connection(max_retries=1, timeout=_CONNECT_SECONDS)
        except failures as error:
            raise errors.LocalStackError(
                f"the broker {choice.masked_url} that {_URL} names cannot be used: {error}. Start it, or choose "
                "one of our own with --broker kafka or --broker file"
            ) from error


@contextmanager
def _kafka(folder: Path) -> Iterator[str]:
    cluster = KafkaCluster(folder)
    cluster.start()
    stopped = threading.Event()
    guard = threading.Thread(target=_keep_running, args=(cluster, stopped), name="kafka-guard", daemon=True)
    guard.start()
    try:
        yield f"kafka://{cluster.bootstrap_servers}"
    finally:
        stopped.set()
        guard.join()
        cluster.stop()


def _keep_running(cluster: KafkaCluster, stopped: threading.Event) -> None:
    """Start Kafka again when it dies, as the processes beside it are."""
    while not stopped.wait(_LOOK_SECONDS):
        if cluster.is_running():
            continue
        print(f"Kafka ended; starting it again (its log: {cluster.log_path()})", file=sys.stderr, flush=True)
        try:
            cluster.restart(wait=False)
        except KafkaStartError as error:
            print(f"Kafka does not start: {error}", file=sys.stderr, flush=True)
