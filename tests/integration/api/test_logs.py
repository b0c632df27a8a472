"""Logs over HTTP: as text, and live."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from flask import Flask

from dccf.api.app import create_app
from dccf.client import sse
from dccf.config import Settings
from dccf.models import Reason
from dccf.store.database import Database
from tests.integration.api.conftest import ADMIN_TOKEN, Asker
from tests.integration.api.playing import Attempt, play

pytestmark = pytest.mark.postgres

Events = list[tuple[str, Any, str | None]]


def events_of(data: bytes) -> Events:
    return [(event.name, json.loads(event.data), event.id) for event in sse.parse(data.split(b"\n"))]


def text_of(events: Events) -> str:
    return "".join(data["text"] for name, data, _ in events if name == "log")


def test_the_text_is_what_was_printed_in_its_order(ada: Asker, database: Database, settings: Settings) -> None:
    job_id = ada.submit_id()
    play(database, settings, job_id, stdout=[b"one\n", b"tw\xc3", b"\xb6\n"], stderr=[b"oh\n"])

    def get(query: str) -> bytes:
        data: bytes = ada.get(f"/v1/jobs/{job_id}/logs{query}").data
        return data

    assert get("") == b"built\none\ntw\xc3\xb6\noh\n"
    assert get("?stream=stdout") == b"one\ntw\xc3\xb6\n"
    assert get("?stream=stderr&stream=build_stdout") == b"built\noh\n"
    assert get("?attempt=1&stream=stderr") == b"oh\n"


def test_a_log_with_many_pieces_comes_whole(ada: Asker, database: Database, settings: Settings) -> None:
    job_id = ada.submit_id()
    lines = [b"line %d\n" % number for number in range(300)]
    play(database, settings, job_id, stdout=lines)

    assert ada.get(f"/v1/jobs/{job_id}/logs?stream=stdout").data == b"".join(lines)
    followed = ada.get(f"/v1/jobs/{job_id}/logs?stream=stdout&follow=1").data
    assert text_of(events_of(followed)).encode() == b"".join(lines)


def test_what_was_left_out_is_said(ada: Asker, database: Database, settings: Settings) -> None:
    job_id = ada.submit_id()
    attempt = Attempt.claim(database, settings, job_id)
    attempt.print(b"head")
    attempt.print(b"tail", omitted_bytes=1234)

    assert ada.get(f"/v1/jobs/{job_id}/logs").data == b"head\n[1234 bytes left out here]\ntail"


def test_an_attempt_that_never_was_is_a_404(ada: Asker) -> None:
    assert ada.get(f"/v1/jobs/{ada.submit_id()}/logs?attempt=2").status_code == 404


def test_following_brings_states_log_and_end(ada: Asker, database: Database, settings: Settings) -> None:
    job_id = ada.submit_id()
    worker = threading.Thread(
        target=play, args=(database, settings, job_id), kwargs={"stdout": [b"gr\xc3", b"\xbcn"]}
    )
    worker.start()

    response = ada.get(f"/v1/jobs/{job_id}/logs?follow=1")
    worker.join()
    events = events_of(response.data)

    assert response.mimetype == "text/event-stream"
    assert events[0][0] == "state"
    assert text_of(events) == "built\ngrün"
    assert events[-1][0] == "end"
    assert events[-1][1]["state"] == "succeeded"


def test_a_client_that_comes_again_misses_nothing_and_sees_nothing_twice(
    ada: Asker, database: Database, settings: Settings
) -> None:
    job_id = ada.submit_id()
    play(database, settings, job_id, stdout=[b"1", b"2", b"3"])
    ids = [one for name, _, one in events_of(ada.get(f"/v1/jobs/{job_id}/logs?follow=1").data) if name == "log"]

    for place, last_id in enumerate(ids):
        again = events_of(ada.get(f"/v1/jobs/{job_id}/logs?follow=1", Last_Event_ID=str(last_id)).data)
        assert [one for name, _, one in again if name == "log"] == ids[place + 1 :]


def test_following_goes_on_through_all_attempts(ada: Asker, database: Database, settings: Settings) -> None:
    job_id = ada.submit_id(spec={"retries": 1})
    for text in (b"first", b"second"):
        attempt = Attempt.claim(database, settings, job_id)
        attempt.run()
        attempt.print(text)
        attempt.end(1, Reason.EXIT_NONZERO)

    events = events_of(ada.get(f"/v1/jobs/{job_id}/logs?follow=1").data)

    assert [(data["attempt"], data["text"]) for name, data, _ in events if name == "log"] == [
        (1, "first"),
        (2, "second"),
    ]
    assert ada.get(f"/v1/jobs/{job_id}/logs").data == b"second"
    only_first = events_of(ada.get(f"/v1/jobs/{job_id}/logs?follow=1&attempt=1").data)
    assert text_of(only_first) == "first"


def test_a_place_to_come_back_to_that_is_not_ours_is_refused(ada: Asker) -> None:
    response = ada.get(f"/v1/jobs/{ada.submit_id()}/logs?follow=1", Last_Event_ID="x")

    assert response.status_code == 422


def test_streams_never_take_the_last_threads(api_settings: Settings, database: Database) -> None:
    app: Flask = create_app(api_settings.model_copy(update={"api_threads": 4}), database)
    asker = Asker(app.test_client(), ADMIN_TOKEN)
    path = f"/v1/jobs/{asker.submit_id()}/logs?follow=1"
    open_streams = [asker.get(path) for _ in range(2)]

    refused = asker.get(path)
    for stream in open_streams:
        stream.close()
    taken = asker.get(path)
    taken.close()

    assert (refused.status_code, refused.json["code"]) == (503, "too_busy")
    assert "Retry-After" in refused.headers
    assert taken.status_code == 200
