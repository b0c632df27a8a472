"""The original's four endpoints."""

from __future__ import annotations

import base64
import hashlib
import io
import tracemalloc

import pytest

from dccf.api import aliases
from dccf.config import Settings
from dccf.store.database import Database
from tests.integration.api.conftest import Asker
from tests.integration.api.playing import Attempt, play

pytestmark = pytest.mark.postgres


def test_the_demo_goes_through_all_of_its_states(ada: Asker, database: Database, settings: Settings) -> None:
    job_id = ada.post("/submitDemo").json

    def status() -> str:
        found: str = ada.get(f"/getJobStatus?jobId={job_id}").json
        return found

    assert isinstance(job_id, str)
    assert status() == "SUBMITTED"
    attempt = Attempt.claim(database, settings, job_id)
    assert status() == "PROCESSING"
    attempt.run()
    attempt.leave({"output.txt": b"Test success!\n"})
    attempt.end()
    assert status() == "COMPLETE"
    files = ada.get(f"/getResultingFiles?jobId={job_id}").json
    assert base64.b64decode(files[-1]["fileData"]) == b"Test success!\n"
    bundle = ada.get(f"/v1/jobs/{job_id}/bundle").json["items"]
    assert [file["path"] for file in bundle] == ["Dockerfile", "demo.sh"]


def test_submitted_files_keep_their_own_names(ada: Asker) -> None:
    data = {
        "dockerFile": (io.BytesIO(b"FROM busybox\n"), "whatever"),
        "taskFiles": [(io.BytesIO(b"1"), "a.txt"), (io.BytesIO(b"2"), "b.txt")],
    }
    response = ada.post("/submit", data)

    assert response.status_code == 200
    bundle = ada.get(f"/v1/jobs/{response.json}/bundle").json["items"]
    assert [file["path"] for file in bundle] == ["Dockerfile", "a.txt", "b.txt"]


def test_results_have_the_shape_of_the_original(ada: Asker, database: Database, settings: Settings) -> None:
    job_id = ada.post("/submitDemo").json
    play(database, settings, job_id, stdout=[b"out"], stderr=[b"err"], files={"a/b.bin": b"\0\1"}, exit_code=1)

    files = ada.get(f"/getResultingFiles?jobId={job_id}").json

    assert [(one["fileType"], one["name"], base64.b64decode(one["fileData"])) for one in files] == [
        ("LOG", "buildStdout.txt", b"built\n"),
        ("LOG", "buildStderr.txt", b""),
        ("LOG", "runStdout.txt", b"out"),
        ("LOG", "runStderr.txt", b"err"),
        ("RETURN", "a/b.bin", b"\0\1"),
    ]
    assert files[0]["taskEntity"] == {"taskId": job_id, "workerIdentifier": "test-worker", "status": "ERROR"}


def test_results_are_not_held_in_memory_as_a_whole(ada: Asker, database: Database, settings: Settings) -> None:
    job_id, content = ada.post("/submitDemo").json, bytes(range(256)) * (112 << 10)
    play(database, settings, job_id, files={"big": content})

    tracemalloc.start()
    response = ada.stream(f"/getResultingFiles?jobId={job_id}")
    digest = hashlib.sha256()
    for piece in response.response:
        digest.update(piece)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < len(content) // 2
    whole = ada.get(f"/getResultingFiles?jobId={job_id}")
    assert digest.digest() == hashlib.sha256(whole.data).digest()
    assert base64.b64decode(whole.json[-1]["fileData"]) == content


def test_results_that_are_too_much_for_one_answer_are_refused(
    ada: Asker, database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aliases, "MAX_RESULT_BYTES", 100)
    by_files, by_log = ada.post("/submitDemo").json, ada.post("/submitDemo").json
    play(database, settings, by_files, files={"big": b"x" * 101})
    play(database, settings, by_log, stdout=[b"x" * 101])

    for job_id in (by_files, by_log):
        response = ada.get(f"/getResultingFiles?jobId={job_id}")
        assert response.status_code == 409
        assert f"/v1/jobs/{job_id}/artifacts" in response.json["detail"]


@pytest.mark.parametrize(("query", "status"), [("", 422), ("?jobId=x", 422), ("?jobId=" + "0" * 32, 404)])
def test_an_unknown_or_missing_id_is_an_error_of_the_asker(ada: Asker, query: str, status: int) -> None:
    for path in ("/getJobStatus", "/getResultingFiles"):
        assert ada.get(path + query).status_code == status
