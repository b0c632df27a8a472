"""Submits to a stack whose API and PostgreSQL come and go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dccf import errors
from dccf.client import Client, JobHandle
from tests.processes import wait_for


def submit_patiently(client: Client, folder: Path, key: str, **spec: Any) -> JobHandle:
    """Submit with an idempotency key until it goes through.

    On a busy machine an API takes longer to be back than the client tries by itself.
    """

    def try_once() -> JobHandle | None:
        try:
            return client.submit(folder, idempotency_key=key, **spec)
        except (errors.ApiUnavailable, errors.StoreUnavailable):
            return None

    return wait_for(f"the job of {key} to be taken in", try_once, 120)
