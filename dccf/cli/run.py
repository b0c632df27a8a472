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
from dccf.cli.options import client, split_pairs, with_json
from dccf.client import JobHandle, LogEvent
from dccf.models import Job, JobState, Stream


@click.command()
@click.argument("source", metavar="DIR|DOCKERFILE")
@click.option("-f", "--file", "files", multiple=True, metavar="FILE", help="Send this file or folder too.")
@click.option("-e", "--env", multiple=True, metavar="K=V", help="Environment variable of the container.")
@click.option("--label", "labels", multiple=True, metavar="K=V", help="Label to find the job by.")
@click.option("--timeout", "timeout_seconds", type=float, metavar="S", help="Longest run, in seconds.")
@click.option("--build-timeout", "build_timeout_seconds", type=float, metavar="S", help="Longest build, in seconds.")
@click.option("--cpus", type=float, help="CPU cores.")
@click.option("--memory", metavar="SIZE", help="Memory, like 512m or 2g.")
@click.option("--pids", type=int, metavar="N", help="Most processes.")
@click.option("--tmp", metavar="SIZE", help="Size of /tmp, which counts as memory.")
@click.option("--shm", metavar="SIZE", help="Size of /dev/shm, which counts as memory.")
@click.option("--ulimit", "ulimits", multiple=True, metavar="NAME=N", help="Resource limit, like nofile=8192.")
@click.option("--profile", type=click.Choice(["strict", "compat"]), help="compat: root may write and do more.")
@click.option("--user", metavar="USER[:GROUP]", help="User of the container; else the image's.")
@click.option("--runtime", metavar="NAME", help="OCI runtime of the container.")
@click.option("--secret", "secrets", multiple=True, metavar="K=NAME", help="Variable with the value of a secret.")
@click.option("--network", type=click.Choice(["none", "bridge"]), help="Network of the container.")
@click.option(
    "--reuse-image/--rebuild", default=None, help="Whether an image built of the same files before will do."
)
@click.option("--queue", help="Queue whose workers may take the job.")
@click.option("--retries", type=int, help="Further attempts when the job itself fails.")
@click.option(
    "--retry-exit-code", "retry_exit_codes", multiple=True, type=int, metavar="N", help="Retry after this code only."
)
@click.option("--queue-timeout", "queue_timeout_seconds", type=float, metavar="S", help="Longest wait for a worker.")
@click.option("--job-timeout", "job_timeout_seconds", type=float, metavar="S", help="Longest time in all.")
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
    env: tuple[str, ...],
    labels: tuple[str, ...],
    ulimits: tuple[str, ...],
    secrets: tuple[str, ...],
    detach: bool,
    folder: Path | None,
    as_json: bool,
    **spec: Any,
) -> None:
    """Run a folder with a Dockerfile, or a Dockerfile alone.

    The container's stdout comes out on stdout, everything else on stderr; the exit code is the
    container's. With --json stdout has one object (the job and its files) and the container's stdout
    goes to stderr. Ctrl-C cancels the job; a second one leaves at once.
    """
    if "\n" in source:
        raise click.UsageError("give a folder or a Dockerfile, not a Dockerfile's text")
    with output.upload_bar() as on_progress:
        handle = client().submit(
            source,
            files,
            on_progress=on_progress,
            env=split_pairs("--env", env),
            labels=split_pairs("--label", labels),
            ulimits=split_pairs("--ulimit", ulimits),
            secrets=split_pairs("--secret", secrets),
            **spec,
        )
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
