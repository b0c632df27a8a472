"""Sets each build with BuildKit apart from all others, by a first layer that no other build has.

BuildKit executes a step once for all builds that ask for it at the same time, whoever their owners are and although
they want no cache. The daemon then loses count of the layers:

- Two builds that export the same new layer at the same time leave it on the disk (moby issue 46136, mended in
  Docker 23.0.11, 25.0.5 and 26.0). Seen with 20.10.24: 10 layers from 10 pairs of builds.
- A layer with the content of one that is there already, on the same layers, is never removed from ``overlay2``.
  Seen with 20.10.24: 5 from 5 builds that copied the same file as an image that was kept.

Neither the API nor a restart removes what is left. So a step is put in behind ``FROM`` that makes a file with the
attempt's name. All that follows has another parent, and is executed, counted and removed for itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from dccf.runner.context import DOCKERFILE
from dccf.runner.dockerfile import STEPS, Dockerfile, Instruction

#: Steps and containers have a ``/dev`` of their own over that of the image, and never see the file.
_FOLDER = "/dev/."
_STEP = re.compile(r"\[(?:(?P<stage>\S+) )?(?P<at>\d+)/(?P<of>\d+)\] (?P<text>.*)", re.DOTALL)


@dataclass(frozen=True)
class OwnStep:
    """The step that is put in: it copies a file of the context to a name that those who must not share lack."""

    source: str
    name: str

    @property
    def line(self) -> str:
        """The instruction."""
        return f"COPY {self.source} {_FOLDER}{self.name}"


def of_attempt(name: str) -> OwnStep:
    """Give the step of one build alone; what it copies is the Dockerfile, as that is there in every build."""
    return OwnStep(DOCKERFILE, name)


def set_apart(text: str, dockerfile: Dockerfile, step: OwnStep) -> str:
    """Put a build's own step in front of each stage's first."""
    lines = text.split("\n")
    has_steps = False
    for instruction in reversed(dockerfile.instructions):
        if instruction.keyword in STEPS:
            has_steps = True
        elif instruction.keyword == "FROM":
            if has_steps:
                lines.insert(instruction.last_line, step.line)
            has_steps = False
    return "\n".join(lines)


@dataclass
class _Stage:
    """The steps of a stage, and how many others BuildKit counts before them: the FROM and what was put in."""

    is_pulled: bool
    has_own_step: bool
    steps: list[Instruction] = field(default_factory=list)

    @property
    def before(self) -> int:
        return self.is_pulled + (self.has_own_step and bool(self.steps))


class StepNames:
    """Reads BuildKit's names of steps, such as ``[build 2/5] RUN make``, as if none had been put in."""

    def __init__(self, dockerfile: Dockerfile, step: OwnStep | None) -> None:
        self._line = step.line if step is not None else None
        self._stages = _stages(dockerfile, has_own_steps=step is not None)

    def shown(self, name: str) -> str | None:
        """Give the name as people are to read it; ``None`` for a step that was put in."""
        match = _STEP.fullmatch(name)
        if match and match["text"] == self._line:
            return None
        stage = self._stages.get(match["stage"] or "") if match else None
        if match is None or stage is None or stage.before == stage.is_pulled:
            return name
        at = int(match["at"])
        label = f"{match['stage']} " if match["stage"] else ""
        return f"[{label}{at - (at >= stage.before)}/{int(match['of']) - 1}] {match['text']}"

    def instruction(self, name: str) -> Instruction | None:
        """Find the instruction of a step; ``None`` when it is none of the Dockerfile's own."""
        match = _STEP.fullmatch(name)
        stage = self._stages.get(match["stage"] or "") if match else None
        at = int(match["at"]) - 1 - stage.before if match and stage else -1
        if match is None or stage is None or not 0 <= at < len(stage.steps):
            return None
        found = stage.steps[at]
        return found if found.keyword == match["text"].split(maxsplit=1)[0].upper() else None


def _stages(dockerfile: Dockerfile, *, has_own_steps: bool) -> dict[str, _Stage]:
    """List the stages by the name that BuildKit gives them, which is none where there is one alone."""
    froms = [instruction for instruction in dockerfile.instructions if instruction.keyword == "FROM"]
    found: dict[str, _Stage] = {}
    stage: _Stage | None = None
    for instruction in dockerfile.instructions:
        if instruction.keyword == "FROM":
            words = instruction.words() or [""]
            # A FROM that pulls nothing is no step.
            stage = _Stage(words[0].lower() not in {"scratch", *found}, has_own_steps)
            name = words[2].lower() if len(words) > 2 else f"stage-{len(found)}" if len(froms) > 1 else ""
            found[name] = stage
        elif instruction.keyword in STEPS and stage is not None:
            stage.steps.append(instruction)
    return found
