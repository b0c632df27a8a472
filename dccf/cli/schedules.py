"""Schedules: jobs made again and again by the clock."""

from __future__ import annotations

import click

from dccf.cli import output
from dccf.cli.options import client, with_json


@click.group(invoke_without_command=True)
@with_json
@click.pass_context
def schedules(context: click.Context, as_json: bool) -> None:
    """Show the schedules; `add`, `pause`, `resume` and `rm` change them."""
    if context.invoked_subcommand is not None:
        return
    found = client().schedules()
    if as_json:
        output.show_json([schedule.model_dump(mode="json") for schedule in found])
        return
    rows = [
        (
            schedule.name,
            schedule.owner,
            schedule.cron,
            schedule.time_zone,
            "paused" if schedule.is_paused else f"{schedule.next_at:%Y-%m-%d %H:%M} UTC",
            str(schedule.last_job_id or ""),
            schedule.message,
        )
        for schedule in found
    ]
    output.show_table(("SCHEDULE", "OWNER", "CRON", "ZONE", "NEXT", "LAST JOB", "MESSAGE"), rows)


@schedules.command()
@click.argument("name")
@click.argument("job_id", metavar="JOB")
@click.option("--cron", required=True, metavar="TEXT", help="Minute hour day month weekday, like '30 3 * * 1-5'.")
@click.option("--time-zone", default="UTC", show_default=True, help="Zone of the expression, like Europe/Berlin.")
@click.option(
    "--missed",
    default="skip",
    show_default=True,
    type=click.Choice(["skip", "one"]),
    help="What becomes of times at which no controller was alive: nothing, or one job for all of them.",
)
def add(name: str, job_id: str, cron: str, time_zone: str, missed: str) -> None:
    """Make JOB again, with its files and options, whenever the time comes."""
    made = client().add_schedule(name, job_id, cron, time_zone=time_zone, missed=missed)
    click.echo(f"{name}: next at {made.next_at:%Y-%m-%d %H:%M} UTC")


@schedules.command()
@click.argument("name")
def pause(name: str) -> None:
    """Let a schedule make no jobs."""
    client().pause_schedule(name)
    click.echo(f"{name} is paused")


@schedules.command()
@click.argument("name")
def resume(name: str) -> None:
    """Let a schedule make jobs again."""
    made = client().resume_schedule(name)
    click.echo(f"{name}: next at {made.next_at:%Y-%m-%d %H:%M} UTC")


@schedules.command()
@click.argument("name")
def rm(name: str) -> None:
    """Remove a schedule; the jobs that it made stay."""
    client().remove_schedule(name)
    click.echo(f"{name} is removed")
