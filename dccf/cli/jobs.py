"""Looking at jobs: ps, status, history, inspect, wait, cancel, workers."""

from __future__ import annotations

from datetime import datetime

import click

from dccf.cli import exits, output
from dccf.cli.options import client, split_pairs, with_json
from dccf.cli.run import describe_end
from dccf.models import Job, JobState

_STATES = [state.value for state in JobState]


@click.command()
@click.option("--state", "states", multiple=True, type=click.Choice(_STATES), help="Only jobs in this state.")
@click.option("-l", "--label", "labels", multiple=True, metavar="K=V", help="Only jobs with this label.")
@click.option("-n", "--limit", default=20, show_default=True, type=click.IntRange(1, 500), help="Most jobs to list.")
@click.option("-q", "--quiet", is_flag=True, help="Print ids only.")
@with_json
def ps(states: tuple[str, ...], labels: tuple[str, ...], limit: int, quiet: bool, as_json: bool) -> None:
    """List jobs, newest first."""
    chosen = [JobState(state) for state in states]
    page = client().list_jobs(chosen, split_pairs("--label", labels), limit)
    if as_json:
        output.show_json([job.model_dump(mode="json") for job in page.jobs])
    elif quiet:
        for job in page.jobs:
            click.echo(job.id)
    else:
        output.show_table(("JOB", "STATE", "AGE", "QUEUE", "LABELS", "MESSAGE"), [_row(job) for job in page.jobs])
        if page.next_cursor:
            output.note(f"there are more; this shows the newest {limit} (-n shows more)")


def _row(job: Job) -> tuple[str, ...]:
    labels = " ".join(f"{key}={value}" for key, value in sorted(job.spec.labels.items()))
    return str(job.id), str(job.state), output.age(job.created_at), job.spec.queue, labels, job.message


@click.command()
@click.argument("job_id", metavar="JOB")
@with_json
def status(job_id: str, as_json: bool) -> None:
    """Say how a job is."""
    job = client().job(job_id).job
    if as_json:
        output.show_json(job.model_dump(mode="json"))
        return
    click.echo(describe_end(job))


@click.command()
@click.argument("job_id", metavar="JOB")
def inspect(job_id: str) -> None:
    """Print everything about a job as JSON: itself, its attempts, its files."""
    handle = client().job(job_id)
    output.show_json(
        {
            "job": handle.job.model_dump(mode="json"),
            "attempts": [attempt.model_dump(mode="json") for attempt in handle.attempts()],
            "artifacts": [artifact.model_dump(mode="json") for artifact in handle.artifacts()],
        }
    )


@click.command()
@click.argument("job_id", metavar="JOB")
@with_json
def history(job_id: str, as_json: bool) -> None:
    """List what happened to a job, oldest first."""
    events = client().job(job_id).history()
    if as_json:
        output.show_json([event.model_dump(mode="json") for event in events])
        return
    rows = [(_clock(event.at), str(event.fence), str(event.state), event.message) for event in events]
    output.show_table(("TIME", "ATTEMPT", "STATE", "WHAT"), rows)


def _clock(at: datetime) -> str:
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S")


@click.command()
@click.argument("job_id", metavar="JOB")
@click.option("--timeout", type=float, metavar="S", help="Wait at most so many seconds; exit code 124 then.")
@with_json
def wait(job_id: str, timeout: float | None, as_json: bool) -> None:
    """Wait until a job has ended, and end with its exit code."""
    handle = client().job(job_id)
    try:
        handle.wait(timeout)
    except TimeoutError as error:
        output.note(str(error))
        raise SystemExit(exits.TIMED_OUT) from error
    if as_json:
        output.show_json(handle.job.model_dump(mode="json"))
    else:
        output.note(describe_end(handle.job))
    raise SystemExit(exits.of_job(handle.job))


@click.command()
@click.argument("job_ids", metavar="JOB...", nargs=-1, required=True)
def cancel(job_ids: tuple[str, ...]) -> None:
    """Cancel jobs."""
    made = client()
    for job_id in job_ids:
        job = made.job(job_id).cancel()
        click.echo(f"{job.id} {'is cancelled' if job.state.is_final else 'was told to stop'}")


@click.command()
@click.argument("job_id", metavar="JOB")
def rerun(job_id: str) -> None:
    """Make a new job from the files and options of an old one, and print its id."""
    click.echo(client().job(job_id).rerun().id)


@click.command()
@click.argument("job_ids", metavar="JOB...", nargs=-1, required=True)
def rm(job_ids: tuple[str, ...]) -> None:
    """Remove jobs that have ended, with their logs and files."""
    made = client()
    for job_id in job_ids:
        handle = made.job(job_id)
        handle.remove()
        click.echo(f"{handle.id} is removed")


@click.command()
@with_json
def controllers(as_json: bool) -> None:
    """List the controllers, and what their sweeps did and took."""
    found = client().controllers()
    if as_json:
        output.show_json(found)
        return
    rows = [
        (
            controller["id"],
            "alive" if controller["is_alive"] else "silent",
            name,
            *(str(sweep[field]) for field in ("runs", "done", "failures", "last_ms", "worst_ms")),
        )
        for controller in found
        for name, sweep in controller["sweeps"].items()
    ]
    heads = ("CONTROLLER", "STATE", "SWEEP", "RUNS", "DONE", "FAILED", "LAST MS", "WORST MS")
    output.show_table(heads, rows)


@click.command()
@with_json
def workers(as_json: bool) -> None:
    """List the workers."""
    found = client().workers()
    if as_json:
        output.show_json(found)
        return
    rows = [
        (
            worker["name"],
            "alive" if worker["is_alive"] else "silent",
            str(worker["slots"]),
            ",".join(worker["queues"]),
            worker["engine"],
            output.age(datetime.fromisoformat(worker["heartbeat_at"])),
            worker["message"],
        )
        for worker in found
    ]
    output.show_table(("WORKER", "STATE", "SLOTS", "QUEUES", "ENGINE", "HEARD", "MESSAGE"), rows)
