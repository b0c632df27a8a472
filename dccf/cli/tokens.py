"""``dccf token``: making, listing and revoking API tokens, beside the database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from dccf import config, errors
from dccf.cli.options import with_json
from dccf.cli.output import age, show_json, show_table
from dccf.cli.servers import named_extras

if TYPE_CHECKING:
    from dccf.store.database import Database


@click.group()
def token() -> None:
    """Look after API tokens (needs the database's settings)."""


@token.command()
@click.option("--owner", required=True, help="Whose jobs the token may see and submit.")
@click.option("--name", required=True, help="What the token is for.")
@click.option("--admin", is_flag=True, help="The token may see and cancel everybody's jobs.")
@click.option("--days", type=click.IntRange(1), help="How long it is valid; for ever unless said.")
def create(owner: str, name: str, admin: bool, days: int | None) -> None:
    """Make a token and print it; it cannot be shown again."""
    with named_extras("token create"):
        from dccf.api import tokens
    settings = config.load()
    expires_at = datetime.now(UTC) + timedelta(days=days) if days else None
    with _database() as database:
        click.echo(tokens.create(database, settings, owner, name, is_admin=admin, expires_at=expires_at))


@token.command("list")
@click.option("--owner", help="Only this owner's.")
@with_json
def list_tokens(owner: str | None, as_json: bool) -> None:
    """List the tokens, newest first; what is secret in them is not kept anywhere."""
    from dccf.store import tokens

    with _database() as database, database.begin() as tx:
        found = tokens.list_all(tx, owner)
    if as_json:
        show_json([{**row, **{name: row[name] and row[name].isoformat() for name in tokens.TIMES}} for row in found])
        return
    heads = ("ID", "OWNER", "NAME", "MAY", "MADE", "LAST USED", "STATE")
    show_table(
        heads,
        [
            (
                row["id"],
                row["owner"],
                row["name"],
                "administer" if row["is_admin"] else "own jobs",
                f"{age(row['created_at'])} ago",
                f"{age(row['last_used_at'])} ago" if row["last_used_at"] else "never",
                _state(row["revoked_at"], row["expires_at"]),
            )
            for row in found
        ],
    )


@token.command()
@click.argument("token_id", metavar="ID")
def revoke(token_id: str) -> None:
    """Make a token invalid at once; its jobs stay."""
    from dccf.store import tokens

    with _database() as database, database.begin() as tx:
        if not tokens.revoke(tx, token_id):
            raise errors.NotFound(f"no valid token has the id {token_id}; 'dccf token list' shows the ids")
    click.echo(f"{token_id} is no longer valid")


def _state(revoked_at: datetime | None, expires_at: datetime | None) -> str:
    if revoked_at is not None:
        return "revoked"
    if expires_at is None:
        return "valid"
    return "expired" if expires_at <= datetime.now(UTC) else f"valid until {expires_at:%Y-%m-%d %H:%M} UTC"


@contextmanager
def _database() -> Iterator[Database]:
    from dccf.store.database import Database

    with closing(Database(config.load().database_url)) as database:
        yield database
