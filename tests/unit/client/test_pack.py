"""What is sent, and under which names."""

from __future__ import annotations

from pathlib import Path

import pytest

from dccf import errors
from dccf.client.pack import Files, pack


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("Dockerfile", "a.txt", "sub/b.txt", "skip/c.txt", "skip/keep.txt"):
        path = tmp_path / "job" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "job"


def names(source: str | Path, files: Files = ()) -> list[str]:
    return sorted(part.name for part in pack(source, files))


def test_a_folder_is_sent_whole(folder: Path) -> None:
    assert names(folder) == ["Dockerfile", "a.txt", "skip/c.txt", "skip/keep.txt", "sub/b.txt"]


def test_what_is_ignored_stays_here_except_for_the_dockerfile(folder: Path) -> None:
    (folder / ".dockerignore").write_text("skip\nDockerfile\n!skip/keep.txt\n")

    assert names(folder) == [".dockerignore", "Dockerfile", "a.txt", "skip/keep.txt", "sub/b.txt"]


def test_a_dockerfile_of_any_name_is_sent_alone(folder: Path) -> None:
    (folder / "other.dockerfile").write_text("FROM busybox")

    assert names(folder / "other.dockerfile") == ["Dockerfile"]


def test_the_text_of_a_dockerfile_will_do() -> None:
    assert pack("FROM busybox\n")[0].content == b"FROM busybox\n"


def test_named_files_keep_their_relative_paths(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)

    assert names("Dockerfile", ["sub/b.txt", "skip"]) == ["Dockerfile", "skip/c.txt", "skip/keep.txt", "sub/b.txt"]
    monkeypatch.chdir(folder / "sub")
    assert names("../Dockerfile", ["../a.txt", str(folder / "skip")]) == [
        "Dockerfile",
        "a.txt",
        "skip/c.txt",
        "skip/keep.txt",
    ]


def test_a_mapping_says_the_names_itself(folder: Path) -> None:
    assert names(folder / "Dockerfile", {"x/y": b"data", "z": folder / "sub"}) == ["Dockerfile", "x/y", "z/b.txt"]


def test_a_link_to_a_folder_is_not_followed(folder: Path) -> None:
    (folder / "loop").symlink_to(folder)

    assert "loop/Dockerfile" not in names(folder)


def test_what_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(errors.InvalidRequest, match="no file or folder 'nope'"):
        pack("nope")
    with pytest.raises(errors.InvalidRequest, match="no Dockerfile in"):
        pack(folder / "sub")
