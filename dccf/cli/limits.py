"""Limits per owner: see them, and as an administrator set them."""

from __future__ import annotations

import click

from dccf.administration import OwnerLimits
from dccf.cli import output
from dccf.cli.options import client, with_json


@click.group(invoke_without_command=True)
@with_json
@click.pass_context
def limits(context: click.Context, as_json: bool) -> None:
    """Show what owners have and may have; `set` changes it."""
    if context.invoked_subcommand is not None:
        return
    found = client().limits()
    if as_json:
        output.show_json([usage.model_dump(mode="json") for usage in found])
        return
    rows = [
        (
            usage.owner,
            str(usage.running),
            _limit(usage.limits.running),
            str(usage.queued),
            _limit(usage.limits.queued),
        )
        for usage in found
    ]
    output.show_table(("OWNER", "RUNNING", "LIMIT", "QUEUED", "LIMIT"), rows)


def _limit(limit: int | None) -> str:
    return "none" if limit is None else str(limit)


@limits.command("set")
@click.argument("owner")
@click.option("--running", type=click.IntRange(min=0), help="Jobs that run at once; the default when left out.")
@click.option("--queued", type=click.IntRange(min=0), help="Jobs that wait at once; the default when left out.")
def set_(owner: str, running: int | None, queued: int | None) -> None:
    """Set an owner's limits (administrators only)."""
    usage = client().set_limits(owner, OwnerLimits(running=running, queued=queued))
    click.echo(f"limits of {owner}: running {_limit(usage.limits.running)}, queued {_limit(usage.limits.queued)}")
