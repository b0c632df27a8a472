"""Queues: see them, and as an administrator pause and resume them."""

from __future__ import annotations

import click

from dccf.cli import output
from dccf.cli.options import client, with_json


@click.group(invoke_without_command=True)
@with_json
@click.pass_context
def queues(context: click.Context, as_json: bool) -> None:
    """Show the queues; `pause` and `resume` stop and start them."""
    if context.invoked_subcommand is not None:
        return
    found = client().queues()
    if as_json:
        output.show_json([queue.model_dump(mode="json") for queue in found])
        return
    rows = [
        (
            queue.name,
            str(queue.queued),
            str(queue.running),
            str(queue.slots),
            f"paused by {queue.paused_by}" if queue.paused_by else "",
        )
        for queue in found
    ]
    output.show_table(("QUEUE", "QUEUED", "RUNNING", "SLOTS", "STATE"), rows)


@queues.command()
@click.argument("name")
def pause(name: str) -> None:
    """Let no job of a queue start (administrators only); those that run go on."""
    found = client().pause_queue(name)
    click.echo(f"queue {name} is paused")
    if any(queue.name == name and not (queue.slots or queue.queued or queue.running) for queue in found):
        others = ", ".join(queue.name for queue in found if queue.name != name) or "none"
        output.note(f"no worker listens on {name}, and it has no jobs; the other queues: {others}")


@queues.command()
@click.argument("name")
def resume(name: str) -> None:
    """Let the jobs of a queue start again (administrators only)."""
    client().resume_queue(name)
    click.echo(f"queue {name} goes on")
