"""``dccf firewall``: the rules that keep containers with a network away from what is not public."""

from __future__ import annotations

import click


@click.command()
def firewall() -> None:
    """Print the script that guards the private network from containers; run it as root beside the Docker daemon.

    `dccf firewall | sudo sh` sets the rules, for docker0 and every br-*. They are gone when the machine starts again.
    """
    from dccf.runner import firewall as rules

    click.echo(rules.script(), nl=False)
