"""Schedules: jobs made again and again by the clock."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

from dccf.administration import Schedule, ScheduleDetails, ScheduleRun
from dccf.cli import output
from dccf.cli.jobspec import check_source, read_spec, with_job_options
from dccf.cli.options import Command, client, with_json

_MISSED = click.Choice(["skip", "one"])
_MISSED_HELP = "What becomes of times at which no controller was alive: nothing, or one job for all of them."
_CRON_HELP = "Minute hour day month weekday, like '30 3 * * 1-5'."
_ZONE_HELP = "Zone of the expression, like Europe/Berlin."


def _with_owner(command: Command) -> Command:
    return click.option("--owner", metavar="OWNER", help="Whose schedule, for administrators.")(command)


@click.group(invoke_without_command=True)
@with_json
@click.pass_context
def schedules(context: click.Context, as_json: bool) -> None:
    """Show the schedules; `add`, `edit`, `pause`, `resume`, `run` and `rm` change them, `show` tells all of one."""
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
            "paused" if schedule.is_paused else _clock(schedule.next_at, schedule.time_zone),
            str(schedule.last_job_id or ""),
            schedule.message,
        )
        for schedule in found
    ]
    output.show_table(("SCHEDULE", "OWNER", "CRON", "ZONE", "NEXT", "LAST JOB", "MESSAGE"), rows)


@schedules.command()
@click.argument("name")
@click.argument("source", metavar="[DIR|DOCKERFILE]", required=False)
@click.option("--cron", required=True, metavar="TEXT", help=_CRON_HELP)
@click.option("--time-zone", "--timezone", default="UTC", show_default=True, help=_ZONE_HELP)
@click.option("--missed", default="skip", show_default=True, type=_MISSED, help=_MISSED_HELP)
@click.option("--job", "job_id", metavar="JOB", help="Make this job again, instead of a DIR or DOCKERFILE.")
@with_job_options
def add(
    name: str,
    source: str | None,
    cron: str,
    time_zone: str,
    missed: str,
    job_id: str | None,
    files: tuple[str, ...],
    **given: Any,
) -> None:
    """Make a job whenever the time comes: of a folder with a Dockerfile, a Dockerfile alone, or an old job."""
    if (source is None) == (job_id is None):
        raise click.UsageError("give a folder or a Dockerfile, or with --job the job to make again; one of the two")
    spec = read_spec(given)
    if source is not None:
        check_source(source)
        with output.upload_bar() as on_progress:
            made = client().add_schedule(
                name, cron, source, files, time_zone=time_zone, missed=missed, on_progress=on_progress, **spec
            )
    else:
        if files or any(value not in (None, {}, ()) for value in spec.values()):
            raise click.UsageError("with --job its own files and options count; leave the other options out")
        made = client().add_schedule_of_job(name, cron, str(job_id), time_zone=time_zone, missed=missed)
    _show_next(made)


@schedules.command()
@click.argument("name")
@_with_owner
@with_json
def show(name: str, owner: str | None, as_json: bool) -> None:
    """Tell when a schedule makes its next jobs, and what became of the last ones."""
    found = client().schedule(name, owner=owner)
    if as_json:
        output.show_json(found.model_dump(mode="json"))
    else:
        _show_details(found)


def _show_details(found: ScheduleDetails) -> None:
    schedule = found.schedule
    click.echo(
        f"{schedule.name} of {schedule.owner}: {schedule.cron} ({schedule.time_zone}), missed: {schedule.missed}"
    )
    said = schedule.spec.model_dump(mode="json", exclude_defaults=True)
    click.echo("options: " + (", ".join(f"{name}={value}" for name, value in said.items()) or "the defaults"))
    if schedule.is_paused:
        click.echo(f"next: paused; to go on: dccf schedules resume {schedule.name}")
    else:
        click.echo("next: " + ", ".join(_clock(at, schedule.time_zone) for at in found.next_times))
    if schedule.message and schedule.message not in {run.message for run in found.runs}:
        click.echo(f"message: {schedule.message}")
    if found.runs:
        rows = [_run_row(run, schedule.time_zone) for run in found.runs]
        output.show_table(("DUE", "JOB", "STATE", "MESSAGE"), rows)
    else:
        click.echo("it has made no job yet")


def _run_row(run: ScheduleRun, zone: str) -> tuple[str, ...]:
    state = "no job" if run.job_id is None else str(run.state or "removed")
    return _clock(run.due_at, zone), str(run.job_id or ""), state, run.message


@schedules.command()
@click.argument("name")
@click.option("--cron", metavar="TEXT", help=_CRON_HELP)
@click.option("--time-zone", "--timezone", help=_ZONE_HELP)
@click.option("--missed", type=_MISSED, help=_MISSED_HELP)
@_with_owner
def edit(name: str, cron: str | None, time_zone: str | None, missed: str | None, owner: str | None) -> None:
    """Change when a schedule makes jobs; what is left out stays as it is.

    For other files or options remove it (`rm`) and `add` it anew.
    """
    if cron is None and time_zone is None and missed is None:
        raise click.UsageError("say what to change: --cron, --time-zone or --missed")
    _show_next(client().change_schedule(name, cron=cron, time_zone=time_zone, missed=missed, owner=owner))


@schedules.command()
@click.argument("name")
@_with_owner
def run(name: str, owner: str | None) -> None:
    """Have a schedule make a job now, paused or not, and print its id."""
    click.echo(client().run_schedule(name, owner=owner).id)


@schedules.command()
@click.argument("name")
@_with_owner
def pause(name: str, owner: str | None) -> None:
    """Let a schedule make no jobs."""
    client().pause_schedule(name, owner=owner)
    click.echo(f"{name} is paused")


@schedules.command()
@click.argument("name")
@_with_owner
def resume(name: str, owner: str | None) -> None:
    """Let a schedule make jobs again."""
    _show_next(client().resume_schedule(name, owner=owner))


@schedules.command()
@click.argument("name")
@_with_owner
def rm(name: str, owner: str | None) -> None:
    """Remove a schedule; the jobs that it made stay."""
    client().remove_schedule(name, owner=owner)
    click.echo(f"{name} is removed")


def _show_next(schedule: Schedule) -> None:
    if schedule.is_paused:
        click.echo(f"{schedule.name} is paused; to go on: dccf schedules resume {schedule.name}")
    else:
        click.echo(f"{schedule.name}: next at {_clock(schedule.next_at, schedule.time_zone)}")


def _clock(at: datetime, zone: str) -> str:
    """Write a time by the schedule's own clock; this machine may not know its zone."""
    try:
        return at.astimezone(ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M %Z")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return f"{at:%Y-%m-%d %H:%M} UTC"
