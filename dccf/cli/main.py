"""The command ``dccf`` and what becomes of errors."""

from __future__ import annotations

import os
import sys

import click

import dccf
from dccf.cli import doctor, exits, files, firewall, jobs, limits, output, queues, run, schedules, servers, tokens
from dccf.errors import DccfError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--url", metavar="URL", help="The API; else DCCF_API_URL, the configuration file, or dccf up.")
@click.option("--token", metavar="TOKEN", help="The token for it; better in DCCF_TOKEN, where nobody sees it.")
def cli(url: str | None, token: str | None) -> None:
    """Run Dockerfiles as jobs: Dockerfile and files in, output and logs out."""
    del url, token  # read by whoever makes a client


@click.command()
def version() -> None:
    """Print the version."""
    click.echo(f"dccf {dccf.__version__}")


for _command in (
    run.run,
    jobs.ps,
    jobs.status,
    files.logs,
    jobs.wait,
    files.get,
    jobs.cancel,
    jobs.rerun,
    jobs.rm,
    jobs.history,
    jobs.inspect,
    jobs.workers,
    jobs.controllers,
    limits.limits,
    queues.queues,
    schedules.schedules,
    tokens.token,
    servers.up,
    servers.api,
    servers.worker,
    servers.controller,
    servers.flower,
    servers.retention,
    servers.db,
    doctor.doctor,
    firewall.firewall,
    version,
):
    cli.add_command(_command)


def main() -> None:
    """Run a command; every error of ours is one clear line and an exit code."""
    try:
        cli(prog_name="dccf", standalone_mode=False)
    except DccfError as error:
        output.note(f"dccf: {error}")
        sys.exit(exits.of_error(error))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(exits.CANCELLED)
    except BrokenPipeError:
        # Whoever read our output has left; Python would complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(exits.FAILURE)
