"""What people see: plain lines, tables, a progress bar; rich where it is installed and there is a terminal."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import click

#: Uploads smaller than this need no bar.
_BAR_FROM_BYTES = 4 << 20
_SECOND, _MINUTE, _HOUR, _DAY = 1, 60, 3600, 86400


def note(text: str) -> None:
    """Say something that is not the result: it goes to stderr."""
    click.echo(text, err=True)


def show_json(value: Any) -> None:
    """Print one JSON value."""
    click.echo(json.dumps(value, ensure_ascii=False))


def show_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: with rich on a terminal, else in plain columns."""
    if sys.stdout.isatty() and importlib.util.find_spec("rich"):
        _rich_table(heads, rows)
        return
    widths = [max(len(row[column]) for row in [heads, *rows]) for column in range(len(heads))]
    for row in [heads, *rows]:
        click.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _rich_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, head in enumerate(heads):
        table.add_column(head, no_wrap=place == 0, overflow="fold")
    for row in rows:
        table.add_row(*(Text(text) for text in row))  # never as markup: a label may contain brackets
    Console().print(table)


@contextmanager
def upload_bar() -> Iterator[Callable[[int, int], None] | None]:
    """Give a function that shows how much of an upload is sent, or ``None`` where nobody would see it."""
    if not (sys.stderr.isatty() and importlib.util.find_spec("rich")):
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("upload"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("upload", visible=False)
        yield lambda sent, total: progress.update(bar, completed=sent, total=total, visible=total >= _BAR_FROM_BYTES)


def age(at: datetime, now: datetime | None = None) -> str:
    """Write how long ago something was."""
    seconds = max(0.0, ((now or datetime.now(UTC)) - at).total_seconds())
    for unit, name in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"


def size(count: int) -> str:
    """Write a number of bytes."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError("the loop always returns")
