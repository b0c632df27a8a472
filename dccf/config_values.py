"""How the values of settings are written in the environment, and their types."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from dccf.administration import RetentionRule
from dccf.fields import Profile, QueueName, Ulimits, parse_memory

_POSTGRES_SCHEMES = ("postgres://", "postgresql://", "postgresql+psycopg2://")


def normalise_database_url(url: str) -> str:
    """Name the psycopg2 driver in a PostgreSQL URL.

    SQLAlchemy 2.1 takes plain ``postgresql://`` for psycopg 3 (measured), which DCCF does not use.
    """
    for scheme in _POSTGRES_SCHEMES:
        if url.startswith(scheme):
            return "postgresql+psycopg2://" + url.removeprefix(scheme)
    raise ValueError("it must start with postgresql://")


def _split_commas(value: Any) -> Any:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _split_numbers(value: Any) -> Any:
    if isinstance(value, str):
        return dict(part.partition("=")[::2] for part in _split_commas(value))
    return value


def default_state_folder() -> Path:
    """Give the folder where one machine keeps its state: the system's for root, else the user's own."""
    if os.geteuid() == 0:
        return Path("/var/lib/dccf")
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "dccf"


def _parse_rules(value: Any) -> Any:
    parts = _split_commas(value)
    if isinstance(parts, list | tuple):
        return tuple(RetentionRule.parse(part) if isinstance(part, str) else part for part in parts)
    return parts


RetentionRules = Annotated[tuple[RetentionRule, ...], BeforeValidator(_parse_rules)]
CommaList = Annotated[tuple[str, ...], BeforeValidator(_split_commas)]
QueueList = Annotated[tuple[QueueName, ...], BeforeValidator(_split_commas)]
ProfileList = Annotated[tuple[Profile, ...], BeforeValidator(_split_commas)]
#: Numbers by name, in the environment like ``nofile=65536,stack=8388608``.
UlimitMap = Annotated[Ulimits, BeforeValidator(_split_numbers)]
#: A size that may be 0, which means: none at all.
BudgetBytes = Annotated[int, BeforeValidator(parse_memory), Field(ge=0)]
DatabaseUrl = Annotated[str, AfterValidator(normalise_database_url)]
