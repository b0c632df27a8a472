"""``.dockerignore`` as Docker reads it."""

from __future__ import annotations

import pytest

from dccf.client.dockerignore import DockerIgnore


@pytest.mark.parametrize(
    ("lines", "path", "left_out"),
    [
        ([], "a", False),
        (["a"], "a", True),
        (["a"], "a/b/c", True),
        (["a"], "b/a", False),
        (["/a"], "a", True),
        (["a/"], "a/b", True),
        (["./a//b"], "a/b", True),
        (["*.log"], "x.log", True),
        (["*.log"], "a/x.log", False),
        (["*/*.log"], "a/x.log", True),
        (["**/*.log"], "x.log", True),
        (["**/*.log"], "a/b/x.log", True),
        (["a/**"], "a/b/c", True),
        (["a/**/c"], "a/c", True),
        (["a/**/c"], "a/b/b/c", True),
        (["a?"], "ab", True),
        (["a?"], "a/", False),
        (["[ab]x"], "bx", True),
        (["[^ab]x"], "bx", False),
        (["[^ab]x"], "cx", True),
        (["a.b"], "axb", False),
        (["\\*"], "*", True),
        (["\\*"], "x", False),
        (["# a", "", "  "], "# a", False),
        (["  a  "], "a", True),
        (["*", "!a"], "a", False),
        (["*", "!a"], "b", True),
        (["!a", "*"], "a", True),
        (["a", "!a/keep"], "a/keep", False),
        (["a", "!a/keep"], "a/other", True),
        (["*.md", "!README*.md", "README-secret.md"], "README-secret.md", True),
        (["*.md", "!README*.md", "README-secret.md"], "README-x.md", False),
        (["["], "[", True),
        (["."], "a", False),
    ],
)
def test_the_last_rule_that_matches_decides(lines: list[str], path: str, left_out: bool) -> None:
    assert DockerIgnore(lines).leaves_out(path) is left_out
