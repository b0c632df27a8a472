"""What is taken out of an archive of /output, and what is passed over."""

from __future__ import annotations

import io
import tarfile

import pytest

from dccf.errors import AttemptFailed
from dccf.runner.collect import OutputLimits, files_of


def test_a_path_too_long_for_the_store_is_passed_over_and_said() -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name in ("before", "/".join(["x" * 200] * 11), "behind"):
            archive.addfile(tarfile.TarInfo(f"output/{name}"))
    packed.seek(0)
    found: list[str] = []

    with pytest.raises(AttemptFailed, match="longer than 2048 bytes"):
        found.extend(file.path for file in files_of(packed, OutputLimits(1 << 20, 1 << 20, 10)))
    assert found == ["before", "behind"]
