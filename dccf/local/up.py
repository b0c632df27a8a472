"""``dccf up``: the whole of DCCF on one machine, supervised; Ctrl-C stops all of it."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shlex
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from honcho import manager as honcho_manager
from honcho.manager import Manager

from dccf import config, config_values, errors
from dccf.local import broker, postgres
from dccf.store import migrate
from dccf.store.database import Database

#: How long everything may take to be ready before the banner says what is missing.
READY_SECONDS = 60.0
#: Processes get this long to end in good order; running jobs are handed back within it.
STOP_SECONDS = 20
_FLOWER_WAIT_SECONDS = 0.25
#: Their metrics ports follow each other in this order.
_WITH_METRICS = ("api", "controller", "worker")


@dataclass(frozen=True)
class UpOptions:
    """What ``dccf up`` can be told.

    ``daemon`` is ``host`` (the machine's Docker daemon, where only labelled objects are touched) or
    ``private`` (root only: a daemon of our own in namespaces of its own). ``broker`` is ``kafka`` (a
    broker of our own; needs Java 17 and, the first time, Maven), ``file`` (a folder), or ``auto``.
    """

    folder: Path
    host: str = "127.0.0.1"
    api_port: int = 8080
    flower_port: int = 5555
    daemon: str = "host"
    broker: broker.Asked = "auto"
    slots: int | None = None

    @property
    def api_url(self) -> str:
        """Where the API is reached."""
        return f"http://{self.host}:{self.api_port}"

    @property
    def flower_url(self) -> str:
        """Where Flower is reached."""
        return f"http://{self.host}:{self.flower_port}"

    @property
    def docker_url(self) -> str:
        """Where the workers reach their daemon."""
        if self.daemon == "private":
            return f"unix://{self.folder.absolute() / 'docker' / 'docker.sock'}"
        return os.environ.get("DCCF_DOCKER_URL") or os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"


def run(options: UpOptions) -> int:
    """Run the stack until Ctrl-C or SIGTERM; give the exit code.

    Raises:
        LocalStackError: it cannot start; the message says why and what to do.
    """
    with _locked(options.folder):
        _check_port(options.host, options.api_port, "--api-port")
        _check_port(options.host, options.flower_port, "--flower-port")
        _prepare_docker(options)
        print("starting PostgreSQL ...", file=sys.stderr)
        with postgres.running(options.folder / "postgres") as database_url:
            database = Database(config_values.normalise_database_url(database_url))
            migrate.upgrade(database)
            database.close()
            token = _token(options)
            choice = broker.choose(options.broker, os.environ)
            print(f"broker: {broker.describe(choice)}", file=sys.stderr)
            with broker.running(choice, options.folder) as named:
                return _supervise(options, choice, _environment(options, database_url, named, token))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Make the folder, and keep a second stack off it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "up.lock").open("w")
    except OSError as error:
        raise errors.LocalStackError(
            f"the state folder {folder} cannot be used: {error}; choose another one with --folder"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise errors.LocalStackError(
                f"`dccf up` already runs on {folder}; stop it (Ctrl-C there), or use another folder with --folder"
            ) from error
        try:
            yield
        finally:
            (folder / "client.json").unlink(missing_ok=True)


def _check_port(host: str, port: int, option: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise errors.LocalStackError(
                f"port {port} on {host} cannot be used: {error.strerror}; stop what uses it, or choose another "
                f"port with {option}"
            ) from error


def _prepare_docker(options: UpOptions) -> None:
    if options.daemon == "private":
        from dccf.local.daemon import check_machine

        check_machine(options.folder / "docker")
        return
    from dccf.worker.context import make_runner

    settings = config.Settings(
        database_url="postgresql://unused",
        broker_url="filesystem://",
        broker_folder=options.folder,
        docker_url=options.docker_url,
    )
    try:
        info = make_runner(settings, "docker").check()
    except errors.EngineUnavailable as error:
        raise errors.LocalStackError(
            f"{error} With dccf up it is DOCKER_HOST that names another one; or (as root, with docker.io installed) "
            "use --daemon private"
        ) from error
    for warning in info.warnings:
        print(f"warning: {warning}", file=sys.stderr)


def _token(options: UpOptions) -> str:
    """Make this stack's token once, and leave it where the command line of the same user finds it."""
    kept = options.folder / "token"
    if not kept.exists():
        _write_private(kept, secrets.token_urlsafe(32))
    token = kept.read_text().strip()
    _write_private(options.folder / "client.json", json.dumps({"url": options.api_url, "token": token}))
    return token


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def _environment(options: UpOptions, database_url: str, named: dict[str, str], token: str) -> dict[str, str]:
    for_python = {
        "DCCF_STATE_FOLDER": str(options.folder),
        "DCCF_DATABASE_URL": database_url,
        "DCCF_DOCKER_URL": options.docker_url,
        **named,
    }
    lines = [f"{name}={shlex.quote(value)}\n" for name, value in for_python.items()]
    _write_private(options.folder / config.UP_ENVIRONMENT, "".join(lines))
    ours = {
        **for_python,
        "DCCF_BOOTSTRAP_TOKEN": token,
        "DCCF_API_HOST": options.host,
        "DCCF_API_PORT": str(options.api_port),
        "DCCF_FLOWER_HOST": options.host,
        "DCCF_FLOWER_PORT": str(options.flower_port),
        "PYTHONUNBUFFERED": "1",
    }
    # Ctrl-C at one's own machine shall not wait for half a minute.
    defaults = {"DCCF_SHUTDOWN_GRACE_SECONDS": "2", "DCCF_BOOTSTRAP_OWNER": os.environ.get("USER") or "local"}
    if options.slots is not None:
        ours["DCCF_WORKER_SLOTS"] = str(options.slots)
    return {**defaults, **os.environ, **ours}


def _supervise(options: UpOptions, choice: broker.Choice, environment: dict[str, str]) -> int:
    # honcho takes no argument for this; its own 5 s are less than handing jobs back may take.
    honcho_manager.KILL_WAIT = STOP_SECONDS
    manager = Manager()
    commands = {name: [sys.executable, "-m", "dccf", name] for name in ("api", "controller", "worker", "flower")}
    if options.daemon == "private":
        folder = str(options.folder / "docker")
        commands["docker"] = [sys.executable, "-m", "dccf.local.daemon", "--folder", folder, "--host-network"]
    for name, command in commands.items():
        respawned = [sys.executable, "-m", "dccf.local.respawn", name, str(os.getpid()), *command]
        manager.add_process(name, f"exec {shlex.join(respawned)}", env=_own_metrics_port(name, environment))
    threading.Thread(target=_announce, args=(options, choice), name="banner", daemon=True).start()
    manager.loop()
    return 0 if manager.returncode in {0, 130, 143} else int(manager.returncode or 1)


def _own_metrics_port(name: str, environment: dict[str, str]) -> dict[str, str]:
    """Give each process a metrics port of its own: the one that is set, and those after it."""
    first = environment.get("DCCF_METRICS_PORT", "")
    if name not in _WITH_METRICS or not first.isdecimal():
        return environment  # a wrong value is for the process to explain
    return {**environment, "DCCF_METRICS_PORT": str(int(first) + _WITH_METRICS.index(name))}


def _announce(options: UpOptions, choice: broker.Choice) -> None:
    """Say that all is ready, or after a while what is not."""
    if options.daemon == "private":
        from dccf.local.daemon import PrivateDaemon

        try:
            daemon = PrivateDaemon(options.folder / "docker", own_network=False)
            daemon.wait_until_ready(READY_SECONDS)
            daemon.ensure_busybox()
        except errors.LocalStackError as error:
            print(f"warning: {error}", file=sys.stderr)
    deadline = time.monotonic() + READY_SECONDS
    missing = _missing(options)
    while missing and time.monotonic() < deadline:
        time.sleep(_FLOWER_WAIT_SECONDS)
        missing = _missing(options)
    print(_banner(options, choice, missing), file=sys.stderr, flush=True)


def _missing(options: UpOptions) -> list[str]:
    """List what is not ready yet."""
    try:
        with urllib.request.urlopen(f"{options.api_url}/readyz", timeout=2) as answer:  # noqa: S310 - our own http URL
            checks = json.load(answer)["checks"]
    except (urllib.error.URLError, OSError, ValueError):
        return ["the API"]
    missing = [name for name, check in checks.items() if check["status"] != "ok"]
    try:
        with socket.create_connection((options.host, options.flower_port), timeout=1):
            pass
    except OSError:
        missing.append("flower")
    return missing


def _banner(options: UpOptions, choice: broker.Choice, missing: list[str]) -> str:
    if missing:
        return f"\nnot ready after {READY_SECONDS:g} s: {', '.join(missing)}; the lines above say why\n"
    return "\n".join(
        [
            "",
            "  DCCF is ready.",
            f"    API      {options.api_url}",
            f"    Flower   {options.flower_url}",
            f"    state    {options.folder}",
            f"    broker   {broker.describe(choice)}",
            f"    Python   set -a; . {options.folder / 'env'}; set +a",
            "             then: from dccf.tasks import run_dockerfile",
            "    try      dccf run examples/hello        (another terminal; the token is found by itself)",
            "    stop     Ctrl-C",
            "",
        ]
    )
