"""Connections to PostgreSQL and what ends them."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator

import pytest
from sqlalchemy import text

from dccf.store.database import Database, Listener

pytestmark = pytest.mark.postgres


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Take all descriptors that `select.select` could use."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    first, second = os.pipe()
    taken = [first, second]
    while taken[-1] < 1100:
        taken.append(os.dup(first))
    yield
    for descriptor in taken:
        os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_listener_hears_in_a_process_with_many_connections(database: Database, many_descriptors: None) -> None:
    listener = Listener(database, "some")
    try:
        with database.begin() as tx:
            tx.execute(text("SELECT pg_notify('some', 'thing')"))
        assert listener.wait(10) == [("some", "thing")]
    finally:
        listener.close()
