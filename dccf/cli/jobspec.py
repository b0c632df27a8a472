"""What commands send that make jobs: files beside the Dockerfile, and the job's options."""

from __future__ import annotations

from typing import Any

import click

from dccf.cli.options import Command, split_pairs

_OPTIONS = (
    click.option("-f", "--file", "files", multiple=True, metavar="FILE", help="Send this file or folder too."),
    click.option("-e", "--env", multiple=True, metavar="K=V", help="Environment variable of the container."),
    click.option("-l", "--label", "labels", multiple=True, metavar="K=V", help="Label to find the job by."),
    click.option("--timeout", "timeout_seconds", type=float, metavar="S", help="Longest run, in seconds."),
    click.option(
        "--build-timeout", "build_timeout_seconds", type=float, metavar="S", help="Longest build, in seconds."
    ),
    click.option("--cpus", type=float, help="CPU cores."),
    click.option("--memory", metavar="SIZE", help="Memory, like 512m or 2g."),
    click.option("--pids", type=int, metavar="N", help="Most processes."),
    click.option("--tmp", metavar="SIZE", help="Size of /tmp, which counts as memory."),
    click.option("--shm", metavar="SIZE", help="Size of /dev/shm, which counts as memory."),
    click.option("--ulimit", "ulimits", multiple=True, metavar="NAME=N", help="Resource limit, like nofile=8192."),
    click.option("--profile", type=click.Choice(["strict", "compat"]), help="compat: root may write and do more."),
    click.option("--user", metavar="USER[:GROUP]", help="User of the container; else the image's."),
    click.option("--runtime", metavar="NAME", help="OCI runtime of the container."),
    click.option("--secret", "secrets", multiple=True, metavar="K=NAME", help="Variable with the value of a secret."),
    click.option("--network", type=click.Choice(["none", "bridge"]), help="Network of the container."),
    click.option(
        "--reuse-image/--rebuild", default=None, help="Whether an image built of the same files before will do."
    ),
    click.option("--queue", help="Queue whose workers may take the job."),
    click.option("--retries", type=int, help="Further attempts when the job itself fails."),
    click.option(
        "--retry-exit-code",
        "retry_exit_codes",
        multiple=True,
        type=int,
        metavar="N",
        help="Retry after this code only.",
    ),
    click.option(
        "--queue-timeout", "queue_timeout_seconds", type=float, metavar="S", help="Longest wait for a worker."
    ),
    click.option("--job-timeout", "job_timeout_seconds", type=float, metavar="S", help="Longest time in all."),
)
_PAIRS = {"env": "--env", "labels": "--label", "ulimits": "--ulimit", "secrets": "--secret"}


def with_job_options(command: Command) -> Command:
    """Add the options of a job, and ``-f`` for its files."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def read_spec(given: dict[str, Any]) -> dict[str, Any]:
    """Give a job's options as the SDK takes them, of the values of :func:`with_job_options` without the files.

    Raises:
        click.BadParameter: one that is KEY=VALUE has no ``=``.
    """
    pairs = {name: split_pairs(option, given[name]) for name, option in _PAIRS.items()}
    return {**given, **pairs}


def check_source(source: str) -> None:
    """Make sure that a source is a path: the SDK takes a Dockerfile's text as well.

    Raises:
        click.UsageError: it has more than one line.
    """
    if "\n" in source:
        raise click.UsageError("give a folder or a Dockerfile, not a Dockerfile's text")
