"""A step of its own in front of each stage's first, which people do not get to see."""

from __future__ import annotations

import pytest

from dccf.runner.apart import StepNames, of_attempt, set_apart
from dccf.runner.dockerfile import Grammar, parse

OURS = "COPY Dockerfile /dev/.x"
TEXT = """ARG V=1
FROM a:$V AS one
RUN true
FROM one AS two
CMD x
FROM scratch
ENV A=b
COPY --from=one \\
  / /
RUN false"""


def apart(text: str) -> list[str]:
    return set_apart(text, parse(text, Grammar()), of_attempt("x")).split("\n")


@pytest.fixture
def names() -> StepNames:
    return StepNames(parse(TEXT, Grammar()), of_attempt("x"))


def test_each_stage_that_makes_layers_begins_with_a_step_of_its_own() -> None:
    lines = TEXT.split("\n")

    assert apart(TEXT) == [*lines[:2], OURS, *lines[2:6], OURS, *lines[6:]]


def test_a_from_of_several_lines_stays_whole() -> None:
    assert apart("FROM \\\n# comment\n a\nRUN x") == ["FROM \\", "# comment", " a", OURS, "RUN x"]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("[one 1/3] FROM docker.io/library/a:1", "[one 1/2] FROM docker.io/library/a:1"),
        (f"[one 2/3] {OURS}", None),
        ("[one 3/3] RUN true", "[one 2/2] RUN true"),
        (f"[stage-2 1/3] {OURS}", None),
        ("[stage-2 3/3] RUN false", "[stage-2 2/2] RUN false"),
        ("[two 1/1] RUN x", "[two 1/1] RUN x"),
        ("[internal] load remote build context", "[internal] load remote build context"),
    ],
)
def test_names_are_shown_as_if_no_step_had_been_put_in(names: StepNames, name: str, shown: str | None) -> None:
    assert names.shown(name) == shown


@pytest.mark.parametrize(
    ("name", "line"),
    [("[one 3/3] RUN true", 3), ("[stage-2 2/3] COPY --from=one / /", 8), ("[stage-2 3/3] RUN false", 10)],
)
def test_the_instruction_of_a_step_is_found(names: StepNames, name: str, line: int) -> None:
    found = names.instruction(name)

    assert found is not None
    assert found.line == line


@pytest.mark.parametrize("name", [f"[one 2/3] {OURS}", "[internal] load remote build context", "", "[one 9/9] RUN x"])
def test_what_is_no_step_of_the_dockerfile_has_no_instruction(names: StepNames, name: str) -> None:
    assert names.instruction(name) is None


def test_a_build_that_is_not_set_apart_is_read_as_it_is() -> None:
    names = StepNames(parse("FROM a\nRUN true", Grammar()), None)

    assert names.shown("[2/2] RUN true") == "[2/2] RUN true"
    assert names.instruction("[2/2] RUN true") is not None
