"""Options that several commands share, and the client that they lead to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from dccf.client import Client

Command = TypeVar("Command", bound=Callable[..., Any])


def with_json(command: Command) -> Command:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def client() -> Client:
    """Make the client that the options before the command describe; it is closed when the command ends."""
    context = click.get_current_context()
    given = context.find_root().params
    made = Client(given.get("url"), given.get("token"))
    context.call_on_close(made.close)
    return made


def split_pairs(option: str, values: Sequence[str]) -> dict[str, str]:
    """Read ``KEY=VALUE`` options.

    Raises:
        click.BadParameter: one has no ``=``.
    """
    for value in values:
        if "=" not in value:
            raise click.BadParameter(f"{value!r} is not KEY=VALUE", param_hint=option)
    return dict(value.partition("=")[::2] for value in values)
