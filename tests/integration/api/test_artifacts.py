"""Artefacts over HTTP: lists, downloads with ranges, archives."""

from __future__ import annotations

import hashlib
import io
import tarfile

import pytest

from dccf.config import Settings
from dccf.store.database import Database
from tests.integration.api.conftest import Asker
from tests.integration.api.playing import play

pytestmark = pytest.mark.postgres

BIG = bytes(range(256)) * 10_000
FILES = {"out.txt": b"hello", "sub/ö ü.html": b"<script>", "big.bin": BIG, "empty": b""}


@pytest.fixture
def job_id(ada: Asker, database: Database, settings: Settings) -> str:
    made = ada.submit_id()
    play(database, settings, made, files=FILES)
    return made


def test_the_list_has_size_and_hash_of_every_file(ada: Asker, job_id: str) -> None:
    items = ada.get(f"/v1/jobs/{job_id}/artifacts").json["items"]

    assert {item["path"]: (item["size"], item["sha256"]) for item in items} == {
        path: (len(data), hashlib.sha256(data).hexdigest()) for path, data in FILES.items()
    }


@pytest.mark.parametrize("path", list(FILES))
def test_a_download_is_the_file_and_never_a_page(ada: Asker, job_id: str, path: str) -> None:
    response = ada.get(f"/v1/jobs/{job_id}/artifacts/{path}")

    assert response.data == FILES[path]
    assert response.content_length == len(FILES[path])
    assert response.headers["ETag"] == f'"{hashlib.sha256(FILES[path]).hexdigest()}"'
    assert response.headers["Content-Disposition"].startswith("attachment")
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in response.headers["Content-Security-Policy"]
    assert response.mimetype == "application/octet-stream"


@pytest.mark.parametrize(
    ("wanted", "start", "stop"),
    [
        ("0-9", 0, 10),
        ("1048570-1048590", 1048570, 1048591),
        ("-5", len(BIG) - 5, len(BIG)),
        ("2000000-", 2000000, None),
    ],
)
def test_a_range_is_that_part_of_the_file(ada: Asker, job_id: str, wanted: str, start: int, stop: int | None) -> None:
    response = ada.get(f"/v1/jobs/{job_id}/artifacts/big.bin", Range=f"bytes={wanted}")

    assert response.status_code == 206
    assert response.data == BIG[start:stop]
    assert response.headers["Content-Range"].endswith(f"/{len(BIG)}")


def test_conditions_are_honoured(ada: Asker, job_id: str) -> None:
    path = f"/v1/jobs/{job_id}/artifacts/big.bin"
    etag = ada.get(path).headers["ETag"]

    assert ada.get(path, If_None_Match=etag).status_code == 304
    assert ada.get(path, Range="bytes=0-1", If_Range='"other"').status_code == 200
    refused = ada.get(path, Range="bytes=99999999-")
    assert refused.status_code == 416
    assert refused.mimetype == "application/problem+json"


def test_a_file_that_is_not_there_is_a_404(ada: Asker, job_id: str) -> None:
    assert ada.get(f"/v1/jobs/{job_id}/artifacts/nope").status_code == 404
    assert ada.get(f"/v1/jobs/{job_id}/artifacts/../Dockerfile").status_code == 404


def test_the_archive_holds_all_files(ada: Asker, job_id: str) -> None:
    response = ada.get(f"/v1/jobs/{job_id}/artifacts.tar")

    with tarfile.open(fileobj=io.BytesIO(response.data)) as archive:
        found = {member.name: archive.extractfile(member) for member in archive}
        assert {name: file.read() for name, file in found.items() if file} == FILES
