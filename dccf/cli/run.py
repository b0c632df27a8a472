"""``dccf run``: sends a job, shows it live, brings what it wrote, and ends as its container did."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import click

from dccf import errors
from dccf.cli import exits, output
from dccf.cli.jobspec import check_source, read_spec, with_job_options
from dccf.cli.options import client, with_json
from dccf.client import JobHandle, LogEvent
from dccf.models import Job, JobState, Stream


@click.command()
@click.argument("source", metavar="DIR|DOCKERFILE")
@with_job_options
@click.option("--run-after", metavar="TIME", help="Start no earlier than this, like 2030-01-31T12:00:00Z.")
@click.option("--detach", is_flag=True, help="Print the job's id and do not wait for it.")
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Bring the files of /output into this folder.",
)
@with_json
def run(
    source: str,
    files: tuple[str, ...],
    run_after: str | None,
    detach: bool,
    folder: Path | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Run a folder with a Dockerfile, or a Dockerfile alone.

    The container's stdout comes out on stdout, everything else on stderr; the exit code is the
    container's. With --json stdout has one object (the job and its files) and the container's stdout
    goes to stderr. Ctrl-C cancels the job; a second one leaves at once.
    """
    check_source(source)
    spec = read_spec(given)
    with output.upload_bar() as on_progress:
        handle = client().submit(source, files, on_progress=on_progress, run_after=run_after, **spec)
    if detach:
        output.show_json(handle.job.model_dump(mode="json")) if as_json else click.echo(handle.id)
        return
    output.note(f"job {handle.id}")
    with _cancelled_by_interrupt(handle):
        follow(handle, sys.stderr if as_json else sys.stdout)
    _finish(handle, folder, as_json=as_json)


def _finish(handle: JobHandle, folder: Path | None, *, as_json: bool) -> None:
    job = handle.job
    artifacts = handle.artifacts()
    if folder is not None:
        for path in handle.download(folder):
            output.note(f"wrote {path}")
    elif artifacts:
        count = "1 file" if len(artifacts) == 1 else f"{len(artifacts)} files"
        total = output.size(sum(artifact.size for artifact in artifacts))
        output.note(f"{count} ({total}) in /output; to get them: dccf get {job.id} -o output")
    if as_json:
        listed = [artifact.model_dump(mode="json") for artifact in artifacts]
        output.show_json({"job": job.model_dump(mode="json"), "artifacts": listed})
    output.note(describe_end(job))
    raise SystemExit(exits.of_job(job))


def follow(handle: JobHandle, stdout: Any) -> Job:
    """Show states and log until the job has ended; its stdout to ``stdout``, the rest to stderr."""
    shown = ""
    for event in handle.events():
        if isinstance(event, LogEvent):
            show_piece(event, stdout)
        elif not event.job.state.is_final and f"{event.job.state}: {event.job.message}" != shown:
            shown = f"{event.job.state}: {event.job.message}"
            output.note(shown)
    return handle.job


def show_piece(event: LogEvent, stdout: Any) -> None:
    """Show a piece of log where it belongs."""
    if event.omitted_bytes:
        output.note(f"[{event.omitted_bytes} bytes left out here]")
    target = stdout if event.stream is Stream.STDOUT else sys.stderr
    target.write(event.text)
    target.flush()


def describe_end(job: Job) -> str:
    """Say in one line how a job ended."""
    if job.reason is not None:
        return f"{job.state}: {job.reason}: {job.message}"
    return f"{job.state}: {job.message}"


@contextmanager
def _cancelled_by_interrupt(handle: JobHandle) -> Iterator[None]:
    """Let the first Ctrl-C cancel the job, and the second end this program."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        del number, frame
        signal.signal(signal.SIGINT, signal.default_int_handler)
        output.note("\ncancelling; press Ctrl-C again to leave at once")
        # Not in the handler: it runs in the middle of a read on the same connection.
        raise _Interrupted

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except _Interrupted:
        _cancel(handle)
        handle.wait()
    finally:
        signal.signal(signal.SIGINT, before)


class _Interrupted(BaseException):
    """Raised by the first Ctrl-C."""


def _cancel(handle: JobHandle) -> None:
    try:
        handle.cancel()
    except errors.Conflict:
        if handle.refresh().state is not JobState.CANCELLED:
            output.note("the job had ended already")
