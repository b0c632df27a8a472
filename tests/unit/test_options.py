"""What people may give to ``run_dockerfile``, and how it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from dccf.celery_app import options
from dccf.errors import InvalidRequest

FIRST, SECOND = UUID("01900000-0000-7000-8000-000000000001"), UUID("01900000-0000-7000-8000-000000000002")


def names(dockerfile: Any = None, files: Any = None) -> list[str]:
    return [path for path, _, _ in options.read_files(dockerfile, files)]


def test_a_mapping_gives_bytes_text_and_paths(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_bytes(b"exit 0\n")
    script.chmod(0o750)

    files: Any = {"a": b"\xff", "b/c": "ä", "d": script, "e": bytearray(b"x")}

    found = list(options.read_files(None, files))

    assert [(path, mode & 0o777, content) for path, mode, content in found] == [
        ("a", 0o644, b"\xff"),
        ("b/c", 0o644, "ä".encode()),
        ("d", 0o750, script),
        ("e", 0o644, b"x"),
    ]


@pytest.mark.parametrize("as_text", [False, True])
def test_a_folder_gives_its_files_under_their_relative_names_in_order(tmp_path: Path, *, as_text: bool) -> None:
    (tmp_path / "sub" / "empty").mkdir(parents=True)
    for name in ("b", "sub/a", "Dockerfile"):
        (tmp_path / name).write_text(name)

    assert names(files=str(tmp_path) if as_text else tmp_path) == ["Dockerfile", "b", "sub/a"]


def test_a_folder_in_a_mapping_stands_below_its_name(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "x").write_text("")

    assert names(files={"data": tmp_path}) == ["data/sub/x"]


def test_the_dockerfile_comes_first_under_its_name(tmp_path: Path) -> None:
    path = tmp_path / "other.Dockerfile"
    path.write_text("FROM busybox\n")

    assert [(*one[:1], one[2]) for one in options.read_files(path, {"a": b""})] == [("Dockerfile", path), ("a", b"")]
    assert names("FROM busybox\n") == ["Dockerfile"]
    assert names() == []


@pytest.mark.parametrize(
    ("value", "kind"),
    [(7, "int"), (None, "NoneType"), (["x"], "list"), ({"x": "y"}, "dict"), (memoryview(b""), "memoryview")],
)
def test_a_content_of_a_wrong_type_is_named(value: Any, kind: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^'a' must be bytes, text or a pathlib.Path, not {kind}$"):
        names(files={"a": value})


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"^'a': there is no file .*gone$"):
        names(files={"a": tmp_path / "gone"})


@pytest.mark.parametrize("place", ["gone", "file"])
def test_a_folder_that_is_not_there_is_named(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(InvalidRequest, match=f"^there is no folder .*{place}$"):
        names(files=tmp_path / place)


def test_a_dockerfile_of_a_wrong_type_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"^'Dockerfile' must be bytes"):
        names(7)
    with pytest.raises(InvalidRequest, match=r"^'Dockerfile': there is no file "):
        names(tmp_path)


def test_eager_mode_reads_everything_into_memory_and_keeps_the_options(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * (3 << 20))

    call = options.read_all({"dockerfile": "FROM busybox\n", "files": tmp_path, "cpus": 2})

    assert call == {"cpus": 2, "files": {"Dockerfile": b"FROM busybox\n", "a": b"x" * (3 << 20)}}


def test_a_job_without_a_parent_has_no_inputs() -> None:
    assert options.parent_ids(()) == ()


@pytest.mark.parametrize("kind", [list, tuple])
def test_the_results_of_a_group_name_its_parents_in_order(kind: Any) -> None:
    results = kind([{"job_id": str(SECOND), "state": "succeeded"}, {"job_id": str(FIRST)}])

    assert options.parent_ids((results,)) == (SECOND, FIRST)


def test_the_result_of_a_job_names_its_parent() -> None:
    assert options.parent_ids([{"job_id": str(FIRST)}]) == (FIRST,)


@pytest.mark.parametrize("result", [7, "text", None, {"id": str(FIRST)}, [{"job_id": str(FIRST)}, 7]])
def test_a_result_of_another_task_is_refused_with_a_way_out(result: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"use run_dockerfile\.si"):
        options.parent_ids((result,))


def test_a_parent_that_is_no_job_id_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="'x' is not a job id"):
        options.parent_ids(({"job_id": "x"},))


def test_only_one_argument_may_stand_without_a_name() -> None:
    with pytest.raises(InvalidRequest, match="takes one positional argument"):
        options.parent_ids(("FROM busybox", {"a": b""}))
