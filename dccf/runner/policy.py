"""What a Dockerfile may not do, said with its line and a way out; and which images it starts from.

The daemon fetches what ``ADD`` and ``FROM`` name from its own network, whatever network the build has
(measured), so these are decided here and not by the network.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from dccf.errors import AttemptFailed
from dccf.models import Reason
from dccf.runner.dockerfile import Dockerfile, Grammar, Instruction, parse
from dccf.runner.spec import IMAGE_REPOSITORY

_BUILT_IN_FRONTEND = re.compile(r"(docker\.io/)?docker/dockerfile(:1(\.\d+)*)?")
#: BuildKit looks for a frontend's name in these as well (its ``parser.DetectSyntax``).
_SYNTAX = re.compile(r"^\s*(?:#|//)\s*syntax\s*=\s*(\S+)", re.IGNORECASE)
_SYNTAX_JSON = re.compile(r'^\s*\{.*"syntax"\s*:', re.IGNORECASE | re.DOTALL)
_REMOTE = re.compile(r"(?i)(.*://.*|[\w.+-]+@[\w.-]+:.*|github\.com/.*)")
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


@dataclass(frozen=True)
class Checked:
    """A Dockerfile that may be built: its text for the daemon, and the images to have first, with lines."""

    text: str
    dockerfile: Dockerfile
    images: tuple[tuple[int, str], ...]
    notes: tuple[str, ...] = ()


def check(text: str, grammar: Grammar, allowed_images: Sequence[str]) -> Checked:
    """Check a Dockerfile against the policy.

    Raises:
        AttemptFailed: ``rejected``, with every line that is not allowed.
        DockerfileError: it is no Dockerfile.
    """
    dockerfile = parse(text, grammar)
    text, findings, notes = _frontend(dockerfile, text)
    images, image_findings = _images(dockerfile.instructions, allowed_images)
    findings += image_findings + lint(dockerfile.instructions)
    # Versions differ in where an instruction ends; what would be executed under either reading counts.
    other = Grammar(grammar.heredocs, not grammar.double_escape_continues)
    reread = parse(text, other, strict=False).instructions
    if reread != dockerfile.instructions:
        findings += lint(reread) + _images(reread, allowed_images)[1]
    if findings:
        unique = sorted(set(findings), key=lambda finding: (finding.line, finding.sentence))
        raise AttemptFailed(Reason.REJECTED, "The Dockerfile is not allowed: " + " ".join(map(str, unique)))
    return Checked(text, dockerfile, tuple(images), tuple(notes))


def check_triggers(image: str, line: int, triggers: Iterable[str]) -> None:
    """Check the ``ONBUILD`` instructions that a base image brings, which the build executes.

    Raises:
        AttemptFailed: ``rejected``.
    """
    for trigger in triggers:
        for instruction in parse(trigger, Grammar(), strict=False).instructions:
            for finding in lint([instruction]):
                raise AttemptFailed(
                    Reason.REJECTED,
                    f"The Dockerfile is not allowed: line {line}: {image} brings ONBUILD {instruction}: "
                    f"{finding.sentence}",
                )


def lint(instructions: Iterable[Instruction]) -> list[Finding]:
    """Find what single instructions may not do."""
    findings = []
    for instruction in instructions:
        inner = _inner(instruction)
        rule = _RULES.get(inner.keyword)
        findings += [Finding(instruction.line, sentence) for sentence in (rule(inner) if rule else ())]
    return findings


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


def _inner(instruction: Instruction) -> Instruction:
    """Give what ``ONBUILD`` would execute, as a later stage may do so; else the instruction itself."""
    if instruction.keyword != "ONBUILD":
        return instruction
    inner = parse(instruction.arguments, Grammar(heredocs=False), strict=False).instructions
    return inner[0] if inner else instruction


def _add(instruction: Instruction) -> Iterable[str]:
    for word in instruction.words()[:-1]:
        plain = re.sub(r"[\"'\\`]", "", word)
        if _REMOTE.fullmatch(plain):
            yield f"ADD may not fetch {plain}: upload the file with the job and ADD or COPY it from there."
        elif "$" in plain:
            yield f"ADD may not use a variable in {plain}, as it could be a URL: write the name out, or use COPY."


def _copy(instruction: Instruction) -> Iterable[str]:
    if "$" in (instruction.flag("from") or ""):
        yield "COPY --from may not use a variable: write the name out."


def _run(instruction: Instruction) -> Iterable[str]:
    for name, value in instruction.flags:
        if name == "mount":
            kind = _mount(value)["type"]
            if kind not in {"bind", "tmpfs"}:
                yield f"RUN --mount=type={kind} is not allowed: {_MOUNT_WAY_OUT.get(kind, 'use bind or tmpfs')}."
            if "$" in value:
                yield "RUN --mount may not use a variable: write the names out."
        elif name == "network" and value not in {"default", "none"}:
            yield f"RUN --network={value} is not allowed: leave it out."
        elif name == "security" and value != "sandbox":
            yield f"RUN --security={value} is not allowed: leave it out."
        elif name == "device":
            yield "RUN --device is not allowed: leave it out."


def _label(instruction: Instruction) -> Iterable[str]:
    for word in instruction.arguments.split():
        key = re.sub(r"[\"'\\`]", "", word).partition("=")[0]
        if key.startswith("dccf."):
            yield f"LABEL {key} is not allowed: names that begin with dccf. belong to DCCF, use another."
        elif "$" in key:
            yield f"LABEL may not use a variable in the name {key}: write it out."


_RULES: dict[str, Callable[[Instruction], Iterable[str]]] = {"ADD": _add, "COPY": _copy, "LABEL": _label, "RUN": _run}
_MOUNT_WAY_OUT = {
    "cache": "it would share files between jobs; use a plain RUN",
    "secret": "jobs have no secrets at build time",
    "ssh": "jobs have no SSH agent",
}


def _mount(value: str) -> dict[str, str]:
    fields = (part.partition("=") for part in value.replace('"', "").split(","))
    found = {key.strip().lower(): text.strip() for key, _, text in fields}
    return {**found, "type": found.get("type", "bind").lower()}


def _frontend(dockerfile: Dockerfile, text: str) -> tuple[str, list[Finding], list[str]]:
    """Refuse ``# syntax=``, which makes the daemon execute an image; the standard one is built in."""
    findings, notes = [], []
    lines = list(dockerfile.lines)
    if _SYNTAX_JSON.match(text):
        findings.append(Finding(1, "a frontend cannot be chosen: write an ordinary Dockerfile."))
    for number, line in enumerate(lines, start=1):
        match = _SYNTAX.match(line)
        if match is None:
            if line.strip() and not line.lstrip().startswith(("#", "//")):
                break
            continue
        if _BUILT_IN_FRONTEND.fullmatch(match[1]):
            notes.append(f"line {number}: the frontend {match[1]} is built in; the line is ignored.")
        else:
            findings.append(
                Finding(number, f"the frontend {match[1]} is not allowed: leave the line out for the built-in one.")
            )
    if notes:
        text = _without_syntax(lines)
    return text, findings, notes


def _without_syntax(lines: list[str]) -> str:
    """Turn syntax lines into comments behind the other directives, which count at the top only."""
    top = next(
        (at for at, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")), len(lines)
    )
    kept = [line for line in lines[:top] if not _SYNTAX.match(line)]
    return "\n".join([*kept, *["#"] * (top - len(kept)), *lines[top:]])


def _images(
    instructions: Iterable[Instruction], allowed_images: Sequence[str]
) -> tuple[list[tuple[int, str]], list[Finding]]:
    """List the images that are not stages of the same file, each once, and what is wrong with them."""
    images: dict[str, int] = {}
    findings: list[Finding] = []
    stages: list[str] = []
    variables: dict[str, str] = {}
    for outer in instructions:
        instruction = _inner(outer)
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
        mounts = (_mount(value) for name, value in instruction.flags if name == "mount")
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
