"""Queues over HTTP."""

from __future__ import annotations

import pytest

from tests.integration.api.conftest import Asker

pytestmark = pytest.mark.postgres


def test_a_queue_is_paused_and_resumed_by_administrators_only(admin: Asker, ada: Asker) -> None:
    ada.submit_id(spec={"queue": "gpu"})
    assert ada.post("/v1/queues/gpu:pause").status_code == 403
    (queue,) = admin.post("/v1/queues/gpu:pause").json["items"]
    assert (queue["name"], queue["queued"], queue["paused_by"]) == ("gpu", 1, "admin")
    assert admin.post("/v1/queues/gpu:resume").json["items"][0]["paused_by"] is None
    assert admin.post("/v1/queues/No Queue:pause").status_code == 422
