"""Entries of the auth file are found by host, as Docker's own tools write them."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from dccf.runner import registry

AUTH = base64.b64encode(b"ada:s:e:c").decode()


def sent_for(tmp_path: Path, auths: object, image: str) -> dict[str, str]:
    """What the daemon is told for an image."""
    (tmp_path / "config.json").write_text(json.dumps({"auths": auths}))
    header = registry.header_for(tmp_path / "config.json", image)
    return json.loads(base64.urlsafe_b64decode(header["X-Registry-Auth"])) if header else {}


@pytest.mark.parametrize(
    ("key", "image", "is_found"),
    [
        ("r.example:5000", "r.example:5000/a/b:1", True),
        ("https://r.example:5000/v2/", "r.example:5000/a/b:1", True),
        ("https://index.docker.io/v1/", "docker.io/library/busybox:latest", True),
        ("docker.io", "docker.io/ada/x:1", True),
        ("r.example", "r.example:5000/a/b:1", False),
        ("r.example:5000", "other.example/r.example:5000/b:1", False),
    ],
)
def test_an_entry_is_for_its_host_alone(tmp_path: Path, key: str, image: str, is_found: bool) -> None:
    sent = sent_for(tmp_path, {key: {"auth": AUTH}}, image)

    host = image.partition("/")[0]
    assert sent == ({"username": "ada", "password": "s:e:c", "serveraddress": host} if is_found else {})


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"username": "ada", "password": "x"}, {"username": "ada", "password": "x"}),
        ({"identitytoken": "t", "auth": AUTH}, {"identitytoken": "t"}),
    ],
)
def test_other_forms_of_entries(tmp_path: Path, entry: dict[str, str], expected: dict[str, str]) -> None:
    assert sent_for(tmp_path, {"r.example": entry}, "r.example/a:1") == {**expected, "serveraddress": "r.example"}


@pytest.mark.parametrize("text", ["", "[]", '{"auths": 1}', "\xff", '{"auths": {"r": {"auth": "%%%secret"}}}'])
def test_what_cannot_be_used_is_said_without_what_is_in_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))

    with pytest.raises(registry.UnusableAuthFile) as failed:
        registry.header_for(tmp_path / "config.json", "r/a:1")

    assert "secret" not in str(failed.value)
    assert failed.value.__context__ is None


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(registry.UnusableAuthFile, match="cannot be read: No such file"):
        registry.header_for(tmp_path / "none", "r/a:1")


def test_without_a_file_there_is_no_header() -> None:
    assert registry.header_for(None, "r/a:1") == {}
