"""The layers in ARCHITECTURE.md are those that import-linter checks."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

TOP = Path(__file__).parents[2]


def test_the_layers_in_the_text_are_those_in_the_contract() -> None:
    contracts = tomllib.loads((TOP / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    rows = re.findall(r"^\| (`[^\n]*?`) \| ", (TOP / "ARCHITECTURE.md").read_text(), re.MULTILINE)
    written = [" | ".join(re.findall(r"`([^`]+)`", row)) for row in rows]
    start = written.index("__main__")
    assert layers == written[start : start + len(layers)]
