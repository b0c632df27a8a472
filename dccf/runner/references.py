"""Which images a Dockerfile names, in ``FROM``, ``COPY --from`` and ``RUN --mount``, and which of them it may.

The worker has them all before the build starts; the daemon is never left to fetch any by itself.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dccf.runner.dockerfile import Instruction, executed, mount_of
from dccf.runner.spec import IMAGE_REPOSITORY

_IMAGE_ID = re.compile(r"(sha256:.*|[0-9a-f]{12,64})")
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?:(:?[-+])([^}]*))?\})")
#: Values of the variables that BuildKit sets by itself; only ``--platform`` uses them as a rule.
_PLATFORM_VARIABLES = frozenset({"TARGETPLATFORM", "BUILDPLATFORM", "TARGETOS", "TARGETARCH", "BUILDOS", "BUILDARCH"})


class _NoSuchVariable(Exception):
    """Raised when a name in ``FROM`` uses a variable without a value."""


@dataclass(frozen=True)
class Finding:
    """Something that is not allowed, and where."""

    line: int
    sentence: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.sentence}"


def normalised(image: str) -> str:
    """Write an image's name in full: ``busybox`` is ``docker.io/library/busybox:latest``."""
    name, at, digest = image.partition("@")
    first, slash, rest = name.partition("/")
    if not slash:
        first, rest = "docker.io", f"library/{name}"
    elif "." not in first and ":" not in first and first != "localhost":
        first, rest = "docker.io", name
    if first == "index.docker.io":
        first = "docker.io"
    if first == "docker.io" and "/" not in rest:
        rest = f"library/{rest}"
    if not at and ":" not in rest.rpartition("/")[2]:
        rest += ":latest"
    return f"{first}/{rest}{at}{digest}"


def images_in(
    instructions: Iterable[Instruction], allowed_images: Sequence[str]
) -> tuple[list[tuple[int, str]], list[Finding]]:
    """List the images that are not stages of the same file, each once, and what is wrong with them."""
    images: dict[str, int] = {}
    findings: list[Finding] = []
    stages: list[str] = []
    variables: dict[str, str] = {}
    for outer in instructions:
        instruction = executed(outer)
        try:
            names = _names(instruction, variables)
        except _NoSuchVariable as error:
            findings.append(Finding(outer.line, f"FROM uses {error}, which has no value: give ARG a default."))
            continue
        for name in names:
            if name.lower() in stages or (name.isdigit() and instruction.keyword != "FROM") or name == "scratch":
                continue
            sentence = _refusal(name, allowed_images)
            if sentence:
                findings.append(Finding(outer.line, sentence))
            images.setdefault(name, outer.line)
        words = instruction.words()
        if instruction.keyword == "FROM":
            stages.append(words[2].lower() if len(words) > 2 and words[1].lower() == "as" else "")
        elif instruction.keyword == "ARG" and not stages:
            variables.update(_defaults(words, variables))
    return [(line, name) for name, line in images.items()], findings


def _names(instruction: Instruction, variables: dict[str, str]) -> list[str]:
    if instruction.keyword == "FROM":
        words = instruction.words()
        return [_expanded(words[0], variables)] if words else []
    if instruction.keyword == "COPY":
        name = instruction.flag("from")
        return [name] if name else []
    if instruction.keyword == "RUN":
        mounts = (mount_of(value) for name, value in instruction.flags if name == "mount")
        return [mount["from"] for mount in mounts if mount.get("from")]
    return []


def _refusal(name: str, allowed_images: Sequence[str]) -> str | None:
    if _IMAGE_ID.fullmatch(name):
        return f"{name} is the id of an image: name the image instead."
    full = normalised(name)
    bare = full.partition("@")[0]
    without_tag = bare if ":" not in bare.rpartition("/")[2] else bare.rpartition(":")[0]
    if without_tag == f"docker.io/library/{IMAGE_REPOSITORY}":
        return f"{name} belongs to DCCF: start from a public image."
    if any(fnmatch.fnmatchcase(text, pattern) for pattern in allowed_images for text in (full, without_tag)):
        return None
    return f"the image {full} is not allowed here: use one that matches {', '.join(allowed_images)}."


def _defaults(words: list[str], variables: dict[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if equals:
            try:
                found[name] = _expanded(value, {**variables, **found})
            except _NoSuchVariable:
                continue
    return found


def _expanded(text: str, variables: dict[str, str]) -> str:
    """Put in the values of ``$NAME``, ``${NAME}``, ``${NAME:-default}`` and ``${NAME:+other}``."""

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        operator, word = match[3] or "", match[4] or ""
        known = variables.get(name)
        is_set = bool(known) if operator.startswith(":") else known is not None
        if operator.endswith("-"):
            return (known or "") if is_set else word
        if operator.endswith("+"):
            return word if is_set else ""
        if known is None and name not in _PLATFORM_VARIABLES:
            raise _NoSuchVariable(match[0])
        return known or ""

    plain = re.sub(r"[\"']", "", text)
    expanded = _VARIABLE.sub(value, plain)
    if "$" in expanded:
        raise _NoSuchVariable(expanded)
    return expanded
