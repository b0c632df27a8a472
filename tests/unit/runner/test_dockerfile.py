"""The parser reads Dockerfiles the way the daemon does, and the policy finds what is not allowed."""

from __future__ import annotations

import pytest

from dccf.errors import AttemptFailed
from dccf.models import Reason
from dccf.runner import policy, references
from dccf.runner.dockerfile import DockerfileError, Grammar, parse


def read(text: str, grammar: Grammar | None = None) -> list[tuple[int, str, str]]:
    """Parse, and give line, keyword and arguments of each instruction."""
    parsed = parse(text, grammar or Grammar())
    return [(each.line, each.keyword, each.arguments) for each in parsed.instructions]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM a\n\n# c\nRUN x", [(1, "FROM", "a"), (4, "RUN", "x")]),
        ("from a\r\nrun x\r\n", [(1, "FROM", "a"), (2, "RUN", "x")]),
        ("\ufeffFROM a", [(1, "FROM", "a")]),
        ("FROM a\nRUN x \\\n# c\n\n  y\nCMD z", [(1, "FROM", "a"), (2, "RUN", "x   y"), (6, "CMD", "z")]),
        ("FROM a\nRUN x \\", [(1, "FROM", "a"), (2, "RUN", "x")]),
        ("# escape=`\nFROM a\nRUN x `\ny \\\nCMD z", [(2, "FROM", "a"), (3, "RUN", "x y \\"), (5, "CMD", "z")]),
        ("# no directive\n# escape=`\nFROM a\nRUN x \\\ny", [(3, "FROM", "a"), (4, "RUN", "x y")]),
        ("FROM a\nRUN <<E\nADD x /\nE\nCMD z", [(1, "FROM", "a"), (2, "RUN", "<<E"), (5, "CMD", "z")]),
        ("FROM a\nRUN <<-E\n\tADD\n\tE\nCMD z", [(1, "FROM", "a"), (2, "RUN", "<<-E"), (5, "CMD", "z")]),
        (
            'FROM a\nCOPY <<"A" <<B /d/\nx\nA\ny\nB\nCMD z',
            [(1, "FROM", "a"), (2, "COPY", '<<"A" <<B /d/'), (7, "CMD", "z")],
        ),
        ("ARG V=1\nFROM a:$V", [(1, "ARG", "V=1"), (2, "FROM", "a:$V")]),
    ],
)
def test_instructions_have_their_lines(text: str, expected: list[tuple[int, str, str]]) -> None:
    assert expected == read(text)


def test_older_versions_know_no_here_documents_and_continue_after_two_escapes() -> None:
    assert read("FROM a\nRUN <<CMD\nADD x /\nCMD", Grammar(heredocs=False)) == [
        (1, "FROM", "a"),
        (2, "RUN", "<<CMD"),
        (3, "ADD", "x /"),
        (4, "CMD", ""),
    ]
    assert len(read("FROM a\nRUN x \\\\\nCMD z", Grammar(double_escape_continues=True))) == 2
    assert len(read("FROM a\nRUN x \\\\\nCMD z", Grammar(double_escape_continues=False))) == 3


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 1, "there is no FROM"),
        ("# c\n", 1, "there is no FROM"),
        ("RUN x", 1, "RUN stands before the first FROM"),
        ("FROM a\n\nFOO x", 3, "FOO: there is no such instruction"),
        ("FROM a\nRUN <<E\nx", 2, "the here-document E does not end"),
        ("# escape=x\nFROM a", 1, "the escape character may be"),
    ],
)
def test_what_is_no_dockerfile_is_named_with_its_line(text: str, line: int, message: str) -> None:
    with pytest.raises(DockerfileError, match=message) as error:
        parse(text, Grammar())

    assert line == error.value.line


@pytest.mark.parametrize(
    ("text", "flags", "arguments"),
    [
        (
            "RUN --mount=type=bind,target=/x --network=none ls -l",
            (("mount", "type=bind,target=/x"), ("network", "none")),
            "ls -l",
        ),
        ("RUN --mount='a b',c ls", (("mount", "a b,c"),), "ls"),
        ("RUN --mount=a\\b ls", (("mount", "ab"),), "ls"),
        ("COPY --link a b", (("link", ""),), "a b"),
        ("RUN ls --all", (), "ls --all"),
    ],
)
def test_flags_are_read_as_buildkit_reads_them(text: str, flags: tuple[tuple[str, str], ...], arguments: str) -> None:
    instruction = parse(f"FROM a\n{text}", Grammar()).instructions[1]

    assert (flags, arguments) == (instruction.flags, instruction.arguments)


def images_of(text: str) -> list[str]:
    """Check, and give the images to have first."""
    return [name for _, name in policy.check(text, Grammar(), ["*"]).images]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM busybox\nCMD x", ["busybox"]),
        ("FROM scratch\nCMD x", []),
        ("FROM --platform=$BUILDPLATFORM busybox AS b\nFROM B\nCOPY --from=b / /", ["busybox"]),
        ("FROM busybox\nFROM alpine\nCOPY --from=0 / /\nCOPY --from=debian / /", ["busybox", "alpine", "debian"]),
        ("ARG T=1\nARG I=a/b:$T\nFROM ${I}\nFROM ${X:-c}\nFROM ${T:+d}\nFROM a${NO-}", ["a/b:1", "c", "d", "a"]),
        ("FROM a\nRUN --mount=from=b,target=/b x", ["a", "b"]),
    ],
)
def test_the_images_of_a_build_are_found(text: str, expected: list[str]) -> None:
    assert expected == images_of(text)


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1", "docker.io/library/busybox:1"),
        ("a/b", "docker.io/a/b:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest"),
        ("index.docker.io/a/b", "docker.io/a/b:latest"),
        ("localhost/a", "localhost/a:latest"),
        ("h:5000/a", "h:5000/a:latest"),
        ("h.example/a/b:2", "h.example/a/b:2"),
        ("busybox@sha256:00", "docker.io/library/busybox@sha256:00"),
    ],
)
def test_image_names_are_written_in_full(name: str, full: str) -> None:
    assert full == references.normalised(name)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("FROM a\nADD https://h/x /x", "line 2: ADD may not fetch https://h/x"),
        ("FROM a\nADD $X /x", "line 2: ADD may not use a variable"),
        ("FROM a\nRUN --mount=type=cache,target=/c x", "line 2: RUN --mount=type=cache is not allowed"),
        ("FROM a\nRUN --mount=type=secret,id=x x", "line 2: RUN --mount=type=secret is not allowed: jobs have no"),
        ("FROM a\nRUN --network=host x", "line 2: RUN --network=host is not allowed"),
        ("FROM a\nRUN --security=insecure x", "line 2: RUN --security=insecure is not allowed"),
        ("FROM a\nCOPY --from=$X / /", "line 2: COPY --from may not use a variable"),
        ("FROM $X", r"line 1: FROM uses \$X, which has no value"),
        ("# syntax=h/x\nFROM a", "line 1: the frontend h/x is not allowed"),
        ("FROM a\nLABEL x=y dccf.job=z", "line 2: LABEL dccf.job is not allowed"),
        ("FROM dccf-job:1", "line 1: dccf-job:1 belongs to DCCF"),
        ("FROM 0123456789ab", "line 1: 0123456789ab is the id of an image"),
    ],
)
def test_what_is_not_allowed_is_named_with_its_line(text: str, sentence: str) -> None:
    with pytest.raises(AttemptFailed, match=sentence) as failed:
        policy.check(text, Grammar(), ["*"])

    assert failed.value.reason == Reason.REJECTED


def test_all_that_is_not_allowed_is_said_at_once() -> None:
    with pytest.raises(AttemptFailed, match=r"line 2: .* line 3: "):
        policy.check("FROM a\nADD http://h/x /\nADD http://h/y /", Grammar(), ["*"])


@pytest.mark.parametrize("pattern", ["*", "docker.io/library/*", "docker.io/library/busybox", "*/busybox:latest"])
def test_an_allowed_image_passes(pattern: str) -> None:
    policy.check("FROM busybox", Grammar(), [pattern])


def test_an_image_that_is_not_allowed_is_said_with_what_is() -> None:
    with pytest.raises(
        AttemptFailed, match=r"docker.io/x/y:latest is not allowed here: use one that matches a/\*, b"
    ):
        policy.check("FROM x/y", Grammar(), ["a/*", "b"])


@pytest.mark.parametrize(
    "text",
    [
        "FROM a\nADD x.tar /",
        "FROM a\nCOPY $X /x",
        "FROM a\nRUN echo http://h --mount=type=cache",
        "FROM a\nRUN --mount=type=tmpfs,target=/t x",
        "FROM a\nRUN cat <<E\nADD http://h/x /\nE",
        "FROM a\nLABEL org.dccf=x",
    ],
)
def test_what_only_looks_dangerous_passes(text: str) -> None:
    policy.check(text, Grammar(), ["*"])


def test_the_standard_frontend_is_taken_out_and_lines_stay() -> None:
    checked = policy.check("# syntax=docker/dockerfile:1\n# escape=`\nFROM a\nRUN x `\n y", Grammar(), ["*"])

    assert checked.text == "# escape=`\n#\nFROM a\nRUN x `\n y"
    assert len(checked.notes) == 1
