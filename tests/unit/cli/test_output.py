"""What people see."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dccf.cli import output

NOW = datetime(2030, 1, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7300, "2 h"), (200000, "2 d"), (-5, "0 s")]
)
def test_ages_are_short(seconds: float, text: str) -> None:
    assert output.age(NOW - timedelta(seconds=seconds), NOW) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (3 * 10**12, "3000.0 GB")])
def test_sizes_are_short(count: int, text: str) -> None:
    assert output.size(count) == text


def test_a_table_without_a_terminal_is_plain_columns(capsys: pytest.CaptureFixture[str]) -> None:
    output.show_table(("A", "LONG"), [("1", "[bold]"), ("22", "")])

    assert capsys.readouterr().out == "A   LONG\n1   [bold]\n22\n"
