"""The documents name everything there is."""

from __future__ import annotations

from pathlib import Path

import click

from dccf.api import create_app
from dccf.cli import exits
from dccf.cli.main import cli
from dccf.config import Settings

DOCS = Path(__file__).parents[3] / "docs"


def test_every_command_and_every_option_of_run_is_documented() -> None:
    text = (DOCS / "cli.md").read_text()
    run = cli.commands["run"]
    options = [
        option for parameter in run.params if isinstance(parameter, click.Option) for option in parameter.opts[:1]
    ]

    assert [name for name in cli.commands if f"dccf {name}" not in text] == []
    assert [option for option in options if f"`{option}" not in text] == []


def test_every_exit_code_is_documented() -> None:
    text = (DOCS / "cli.md").read_text()
    codes = [value for name, value in vars(exits).items() if name.isupper() and isinstance(value, int) and value]

    assert [code for code in codes if f"| {code} |" not in text] == []


def test_every_route_is_documented() -> None:
    text = (DOCS / "rest.md").read_text()
    settings = Settings(database_url="postgresql://nobody@127.0.0.1:1/none", broker_url="memory://")
    spec = create_app(settings).test_client().get("/openapi.json").json
    assert spec is not None

    assert [path for path in spec["paths"] if path not in text] == []
