"""Parses Dockerfiles the way the daemon does, with line numbers.

Written after BuildKit's ``frontend/dockerfile/parser``, since what is checked here has to be what is
executed there; ``dockerfile-parse`` knows no here-documents, so that their text would be taken for
instructions and the other way round.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

INSTRUCTIONS = frozenset(
    {"ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER"}
    | {"ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"}
)
#: Instructions that make a layer, which BuildKit counts as ``[2/5]``.
STEPS = frozenset({"ADD", "COPY", "RUN", "WORKDIR"})

_DIRECTIVE = re.compile(r"#\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(.+?)\s*")
_HEREDOC = re.compile(r"(?<![<\w])(?:\d*)<<(-?)([\"']?)([^\s<\"']+)\2")
_HEREDOC_INSTRUCTIONS = frozenset({"ADD", "COPY", "RUN"})


class DockerfileError(Exception):
    """Raised when a text is no Dockerfile; ``line`` counts from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(line, message)
        self.line = line
        self.message = message

    def __str__(self) -> str:
        return f"line {self.line}: {self.message}"


@dataclass(frozen=True)
class Grammar:
    """What differs between versions of the daemon.

    ``heredocs``: the instructions may have here-documents (Docker 23 and newer, BuildKit only).
    ``double_escape_continues``: a line that ends in two backslashes goes on in the next (Docker 20.10).
    """

    heredocs: bool = True
    double_escape_continues: bool = False


@dataclass(frozen=True)
class Instruction:
    """One instruction: ``keyword`` in capitals, the flags before its arguments, and the rest as one line.

    It stands in the lines from ``line`` to ``last_line``, here-documents apart.
    """

    line: int
    last_line: int
    keyword: str
    flags: tuple[tuple[str, str], ...]
    arguments: str

    def __str__(self) -> str:
        """Write the instruction as one short line."""
        flags = "".join(f"--{name}={value} " if value else f"--{name} " for name, value in self.flags)
        text = " ".join(f"{self.keyword} {flags}{self.arguments}".split())
        return text if len(text) <= 120 else text[:117] + "..."

    def flag(self, name: str) -> str | None:
        """Give the value of a flag, or ``None`` when it is not there."""
        return next((value for key, value in self.flags if key == name), None)

    def words(self) -> list[str]:
        """Split the arguments as a JSON list where they are one, else at blanks."""
        if self.arguments.startswith("["):
            try:
                listed = json.loads(self.arguments)
            except ValueError:
                listed = None
            if isinstance(listed, list) and all(isinstance(word, str) for word in listed):
                return listed
        return self.arguments.split()


@dataclass(frozen=True)
class Dockerfile:
    """A parsed Dockerfile. ``directives`` are the ``# name=value`` lines at its top, with their line numbers."""

    instructions: tuple[Instruction, ...]
    directives: tuple[tuple[int, str, str], ...]
    lines: tuple[str, ...] = field(repr=False)


def parse(text: str, grammar: Grammar, *, strict: bool = True) -> Dockerfile:
    """Parse a Dockerfile; unless ``strict``, unknown instructions are passed over.

    Raises:
        DockerfileError: it is none.
    """
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    directives = _directives(lines)
    escape = next((value for _, name, value in directives if name == "escape"), "\\")
    if escape not in {"\\", "`"}:
        raise DockerfileError(1, f"the escape character may be \\ or `, not {escape}")
    instructions = []
    at = 0
    while at < len(lines):
        line, joined, at = _logical_line(lines, at, escape, grammar)
        if not joined:
            continue
        instruction = _instruction(line, at, joined)
        if instruction.keyword in INSTRUCTIONS:
            if grammar.heredocs and instruction.keyword in _HEREDOC_INSTRUCTIONS:
                at = _after_heredocs(lines, at, instruction)
            instructions.append(instruction)
        elif strict:
            raise DockerfileError(line, f"{instruction.keyword}: there is no such instruction")
    if strict:
        _check_order(instructions)
    return Dockerfile(tuple(instructions), tuple(directives), tuple(lines))


def _directives(lines: list[str]) -> list[tuple[int, str, str]]:
    """Read the parser directives, which end at the first line that is none."""
    found = []
    for number, line in enumerate(lines, start=1):
        match = _DIRECTIVE.fullmatch(line.strip())
        if match is None:
            break
        found.append((number, match[1].lower(), match[2]))
    return found


def _logical_line(lines: list[str], at: int, escape: str, grammar: Grammar) -> tuple[int, str, int]:
    """Join a line with those it goes on in; give its number, its text (may be empty) and where to go on."""
    first = at + 1
    text = lines[at].strip()
    at += 1
    if not text or text.startswith("#"):
        return first, "", at
    while (shortened := _without_escape(text, escape, grammar)) is not None:
        text = shortened
        # Empty lines and comments inside an instruction are passed over.
        while at < len(lines) and (not lines[at].strip() or lines[at].lstrip().startswith("#")):
            at += 1
        if at >= len(lines):
            break
        text += lines[at].rstrip()
        at += 1
    return first, text.strip(), at


def _without_escape(text: str, escape: str, grammar: Grammar) -> str | None:
    """Take the escape character off a line that goes on; ``None`` when the line is complete."""
    stripped = text.rstrip(" \t")
    if not stripped.endswith(escape):
        return None
    if stripped.endswith(escape * 2) and not grammar.double_escape_continues:
        return None
    return stripped[: -len(escape)]


def _instruction(line: int, last_line: int, text: str) -> Instruction:
    keyword, *rest = text.split(maxsplit=1)
    arguments = rest[0] if rest else ""
    flags = []
    while arguments.startswith("--"):
        word, arguments = _flag_word(arguments)
        name, _, value = word.removeprefix("--").partition("=")
        flags.append((name.lower(), value))
    return Instruction(line, last_line, keyword.upper(), tuple(flags), arguments.strip())


def _flag_word(text: str) -> tuple[str, str]:
    """Cut the first word off, its quotes and escapes undone, as BuildKit's ``extractBuilderFlags`` does."""
    word, quote, at = "", "", 0
    while at < len(text):
        character = text[at]
        if character == "\\" and at + 1 < len(text):
            at += 1
            word += text[at]
        elif quote:
            quote, word = ("", word) if character == quote else (quote, word + character)
        elif character in {"'", '"'}:
            quote = character
        elif character.isspace():
            break
        else:
            word += character
        at += 1
    return word, text[at:].lstrip()


def _after_heredocs(lines: list[str], at: int, instruction: Instruction) -> int:
    """Find the line after the here-documents that an instruction opens."""
    for match in _HEREDOC.finditer(instruction.arguments):
        dash, _, name = match.groups()
        while at < len(lines) and (lines[at].lstrip("\t") if dash else lines[at]) != name:
            at += 1
        if at >= len(lines):
            raise DockerfileError(instruction.line, f"the here-document {name} does not end")
        at += 1
    return at


def _check_order(instructions: list[Instruction]) -> None:
    first = next((instruction for instruction in instructions if instruction.keyword != "ARG"), None)
    if first is None:
        raise DockerfileError(1, "there is no FROM")
    if first.keyword != "FROM":
        raise DockerfileError(first.line, f"{first.keyword} stands before the first FROM")


def executed(instruction: Instruction) -> Instruction:
    """Give what ``ONBUILD`` would execute, as a later stage may do so; else the instruction itself."""
    if instruction.keyword != "ONBUILD":
        return instruction
    found = parse(instruction.arguments, Grammar(heredocs=False), strict=False).instructions
    return found[0] if found else instruction


def mount_of(value: str) -> dict[str, str]:
    """Read the value of ``RUN --mount=``: its fields in small letters; ``type`` is always there."""
    fields = (part.partition("=") for part in value.replace('"', "").split(","))
    found = {key.strip().lower(): text.strip() for key, _, text in fields}
    return {**found, "type": found.get("type", "bind").lower()}
