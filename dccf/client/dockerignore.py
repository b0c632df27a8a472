"""``.dockerignore``: which files of a folder are left out, as Docker decides it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class _Rule:
    pattern: re.Pattern[str]
    is_exception: bool


class DockerIgnore:
    """The rules of one ``.dockerignore`` file; the last one that matches decides.

    A pattern also matches everything below what it matches. ``Dockerfile`` itself is asked about like
    any other file; whoever sends a bundle sends it in any case.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self._rules = tuple(_rules(lines))

    def leaves_out(self, path: str) -> bool:
        """Say whether a file (its path with ``/``, relative to the folder) is left out."""
        left_out = False
        for rule in self._rules:
            if left_out == rule.is_exception and rule.pattern.fullmatch(path):
                left_out = not rule.is_exception
        return left_out

    @property
    def has_exceptions(self) -> bool:
        """Whether something below a folder that is left out may still be wanted."""
        return any(rule.is_exception for rule in self._rules)


def _rules(lines: Iterable[str]) -> Iterable[_Rule]:
    for line in lines:
        if line.startswith("#"):
            continue
        text = line.strip()
        is_exception = text.startswith("!")
        text = text.removeprefix("!").strip()
        pattern = "/".join(part for part in text.split("/") if part not in {"", "."})
        if pattern:
            yield _Rule(re.compile(_translate(pattern), re.DOTALL), is_exception)


def _translate(pattern: str) -> str:
    """Turn a pattern of Go's ``filepath.Match``, with ``**`` added, into a regular expression."""
    out, place = "", 0
    while place < len(pattern):
        if pattern.startswith("**", place):
            place += 2
            if pattern.startswith("/", place):
                place += 1
                out += "(?:.*/)?"
            else:
                out += ".*"
            continue
        piece, place = _translate_one(pattern, place)
        out += piece
    return out + "(?:/.*)?"


def _translate_one(pattern: str, place: int) -> tuple[str, int]:
    character = pattern[place]
    if character == "*":
        return "[^/]*", place + 1
    if character == "?":
        return "[^/]", place + 1
    if character == "[":
        end = pattern.find("]", place + 2)
        if end > 0:
            inside = pattern[place + 1 : end].replace("\\", "\\\\").replace("[", "\\[")
            return f"(?!/)[{inside}]", end + 1
    if character == "\\" and place + 1 < len(pattern):
        return re.escape(pattern[place + 1]), place + 2
    return re.escape(character), place + 1
