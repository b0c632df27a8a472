"""What a Dockerfile may not do, said with its line and a way out.

The daemon fetches what ``ADD`` and ``FROM`` name from its own network, whatever network the build has
(measured), so these are decided here and not by the network.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from dccf.errors import AttemptFailed
from dccf.models import Reason
from dccf.runner.dockerfile import Dockerfile, Grammar, Instruction, executed, mount_of, parse
from dccf.runner.references import Finding, images_in

_BUILT_IN_FRONTEND = re.compile(r"(docker\.io/)?docker/dockerfile(:1(\.\d+)*)?")
#: BuildKit looks for a frontend's name in these as well (its ``parser.DetectSyntax``).
_SYNTAX = re.compile(r"^\s*(?:#|//)\s*syntax\s*=\s*(\S+)", re.IGNORECASE)
_SYNTAX_JSON = re.compile(r'^\s*\{.*"syntax"\s*:', re.IGNORECASE | re.DOTALL)
_REMOTE = re.compile(r"(?i)(.*://.*|[\w.+-]+@[\w.-]+:.*|github\.com/.*)")


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
    images, image_findings = images_in(dockerfile.instructions, allowed_images)
    findings += image_findings + lint(dockerfile.instructions)
    # Versions differ in where an instruction ends; what would be executed under either reading counts.
    other = Grammar(grammar.heredocs, not grammar.double_escape_continues)
    reread = parse(text, other, strict=False).instructions
    if reread != dockerfile.instructions:
        findings += lint(reread) + images_in(reread, allowed_images)[1]
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
        inner = executed(instruction)
        rule = _RULES.get(inner.keyword)
        findings += [Finding(instruction.line, sentence) for sentence in (rule(inner) if rule else ())]
    return findings


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
            kind = mount_of(value)["type"]
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
