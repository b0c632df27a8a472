"""Where artefacts may go."""

from __future__ import annotations

from pathlib import Path

import pytest

from dccf import errors
from dccf.client.download import place


def test_an_artefact_goes_below_the_folder(tmp_path: Path) -> None:
    assert place(tmp_path, "a/b.txt") == tmp_path / "a" / "b.txt"


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/passwd", "", ".", "a\0b"])
def test_a_path_that_would_leave_the_folder_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(errors.InvalidRequest):
        place(tmp_path, path)


def test_a_link_in_the_folder_leads_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "link").symlink_to(tmp_path)

    with pytest.raises(errors.InvalidRequest):
        place(tmp_path / "out", "link/x")
