"""Secrets are read from their owner's folder only, and what is wrong with one is said without its value."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dccf.errors import AttemptFailed
from dccf.models import Reason
from dccf.runner import secrets


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as Kubernetes mounts a Secret: the names are links into a hidden folder, which is a link itself."""
    hidden = tmp_path / "ada" / "..2030_01_01"
    hidden.mkdir(parents=True)
    (tmp_path / "ada" / "..data").symlink_to(hidden.name)
    contents = {
        "token": b"correct horse\nbattery\n",
        "two-feeds": b"12345678\n\n",
        "short": b"1234567\n",
        "large": b"x" * ((64 << 10) + 1),
        "largest": b"x" * (64 << 10) + b"\n",
        "binary": b"\xff" * 9,
        "nul": b"12345678\0",
        "folder": None,
    }
    for name, data in contents.items():
        (hidden / name).mkdir() if data is None else (hidden / name).write_bytes(data)
        (tmp_path / "ada" / name).symlink_to(f"..data/{name}")
    (tmp_path / "outside").write_text("not for ada at all")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "value"),
    [("token", "correct horse\nbattery"), ("two-feeds", "12345678\n"), ("largest", "x" * (64 << 10))],
)
def test_a_value_is_the_file_without_one_line_feed_at_its_end(folder: Path, name: str, value: str) -> None:
    read = secrets.read(folder, "ada", {"A": name})

    assert read["A"].get_secret_value() == value
    assert value not in repr(read)


@pytest.mark.parametrize(
    ("owner", "name", "words"),
    [
        ("ada", "missing", "'missing' is not there for owner ada"),
        ("bob", "token", "'token' is not there for owner bob"),
        ("../ada", "token", "is no owner who can have a folder"),
        ("ada\n", "token", "is no owner who can have a folder"),
        ("..", "outside", "is no owner who can have a folder"),
        ("", "ada", "is no owner who can have a folder"),
        (None, "token", "is no owner who can have a folder"),
        ("ada", "folder", "cannot be read by the worker"),
        ("ada", "short", "must have 8 to 65536 bytes"),
        ("ada", "large", "must have 8 to 65536 bytes"),
        ("ada", "binary", "is no text in UTF-8"),
        ("ada", "nul", "is no text in UTF-8"),
    ],
)
def test_what_is_wrong_is_said_by_name(folder: Path, owner: str | None, name: str, words: str) -> None:
    with pytest.raises(AttemptFailed, match=words) as failed:
        secrets.read(folder, owner, {"A": name})

    assert failed.value.reason == Reason.REJECTED
    assert os.fspath(folder) not in failed.value.message
    causes = (failed.value.__cause__, failed.value.__context__)
    assert not any(isinstance(cause, UnicodeError) for cause in causes)


def test_an_owner_may_be_an_address(tmp_path: Path) -> None:
    folder = tmp_path / "ada+jobs@example.org"
    folder.mkdir()
    (folder / "token").write_text("12345678")

    assert secrets.read(tmp_path, folder.name, {"A": "token"})["A"].get_secret_value() == "12345678"


def test_without_a_folder_there_are_no_secrets() -> None:
    assert secrets.read(None, "ada", {}) == {}
    with pytest.raises(AttemptFailed, match="DCCF_SECRETS_FOLDER"):
        secrets.read(None, "ada", {"A": "token"})
