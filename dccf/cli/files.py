"""What jobs leave behind: logs and get."""

from __future__ import annotations

import sys
from pathlib import Path, PurePosixPath
from typing import TextIO

import click

from dccf import errors
from dccf.cli import output
from dccf.cli.options import client
from dccf.cli.run import show_piece
from dccf.client import JobHandle, LogEvent
from dccf.client.job import RUN_STREAMS
from dccf.models import Stream

_STREAMS = [stream.value for stream in Stream]


@click.command()
@click.argument("job_id", metavar="JOB")
@click.option("-f", "--follow", is_flag=True, help="Stay until the job has ended.")
@click.option("--stream", "names", multiple=True, type=click.Choice(_STREAMS), help="Only this stream.")
@click.option("--build", is_flag=True, help="The log of the build instead of the run's.")
@click.option("--attempt", type=click.IntRange(1), help="This attempt instead of the last.")
def logs(job_id: str, follow: bool, names: tuple[str, ...], build: bool, attempt: int | None) -> None:
    """Print what a job printed: stdout on stdout, stderr on stderr."""
    chosen = [Stream(name) for name in names] or list(
        (Stream.BUILD_STDOUT, Stream.BUILD_STDERR) if build else RUN_STREAMS
    )
    handle = client().job(job_id)
    if follow:
        for event in handle.events(chosen, attempt):
            if isinstance(event, LogEvent):
                show_piece(event, _place(event.stream))
        return
    is_empty = True
    for stream in chosen:
        for data in handle.read_log([stream], attempt):
            _place(stream).buffer.write(data)
            is_empty = False
        _place(stream).flush()
    if is_empty and not handle.job.state.is_final:
        output.note(f"nothing yet, the job is {handle.job.state}: {handle.job.message} (-f stays until it has ended)")


def _place(stream: Stream) -> TextIO:
    return sys.stdout if stream in {Stream.STDOUT, Stream.BUILD_STDOUT} else sys.stderr


@click.command()
@click.argument("what", metavar="JOB[/PATH]")
@click.option("-o", "--output", "target", type=click.Path(path_type=Path), help="Folder (or file, with /PATH).")
def get(what: str, target: Path | None) -> None:
    """Bring the files that a job left in /output, or one of them, or a folder of them.

    Without -o they come into the folder ./output; with -o - one file goes to stdout.
    """
    job_id, _, path = what.partition("/")
    handle = client().job(job_id)
    if not handle.job.state.is_final:
        raise errors.Conflict(
            f"job {handle.id} is {handle.job.state}: {handle.job.message}; its files are there when it has ended "
            f"(dccf wait {handle.id})"
        )
    if not path:
        _bring(handle, target or Path("output"), None)
        return
    path = path.rstrip("/")
    known = [artifact.path for artifact in handle.artifacts()]
    if path in known:
        _bring_one(handle, path, target)
        return
    below = [one for one in known if one.startswith(f"{path}/")]
    if not below:
        raise errors.NotFound(f"job {handle.id} has no artefact {path!r}; it has: {', '.join(known) or 'none'}")
    _bring(handle, target or Path("output"), below)


def _bring(handle: JobHandle, folder: Path, paths: list[str] | None) -> None:
    brought = handle.download(folder, paths)
    for path in brought:
        click.echo(path)
    if not brought:
        output.note("the job left no files in /output")


def _bring_one(handle: JobHandle, path: str, target: Path | None) -> None:
    if target == Path("-"):
        for data in handle.read_artifact(path):
            sys.stdout.buffer.write(data)
        sys.stdout.flush()
        return
    target = target or Path(PurePosixPath(path).name)
    if target.is_dir():
        target /= PurePosixPath(path).name
    handle.download_to(path, target)
    click.echo(target)
