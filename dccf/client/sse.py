"""Reading Server-Sent Events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class ServerEvent:
    """One event: its name, its data, and the id to come again with."""

    name: str
    data: str
    id: str | None


def parse(lines: Iterable[bytes]) -> Iterator[ServerEvent]:
    """Turn lines (without their ends) into events; an event that is cut off is left out."""
    name, event_id = "message", None
    data: list[str] = []
    for raw in lines:
        line = raw.decode("utf-8", "replace")
        if not line:
            if data:
                yield ServerEvent(name, "\n".join(data), event_id)
            name, data = "message", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)
        elif field == "id":
            event_id = value
