"""A claim whose commit was not answered: the next try finds out what became of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import pytest
from sqlalchemy import Connection, text

from dccf import errors
from dccf.config import Settings
from dccf.lifecycle import attempts
from dccf.lifecycle.attempts import Claim, Holder
from dccf.models import JobState
from dccf.store import jobs
from dccf.store.database import Database
from tests.integration.lifecycle.conftest import SubmitJob

pytestmark = pytest.mark.postgres


class LosesAnswers(Database):
    """A database whose connection breaks at a commit, before or after it went through."""

    def __init__(self, url: str, *breaks: str) -> None:
        super().__init__(url)
        self.breaks = list(breaks)

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        broken = ""
        with super().begin() as tx:
            yield tx
            writes = tx.execute(text("SELECT pg_current_xact_id_if_assigned()")).scalar() is not None
            broken = self.breaks.pop(0) if writes and self.breaks else ""
            if broken == "before":
                raise errors.StoreUnavailable("the connection broke before the commit")
        if broken == "after":
            raise errors.StoreUnavailable("the connection broke after the commit")


def state_of(database: Database, job_id: UUID) -> tuple[JobState, int]:
    with database.begin() as tx:
        job = jobs.get(tx, job_id)
    assert job is not None
    return job.state, job.fence


@pytest.mark.parametrize("breaks", [["before"], ["after"], ["before", "before"], ["before", "after"]])
def test_the_job_is_ours_after_one_attempt(
    database: Database, settings: Settings, submit_job: SubmitJob, me: Holder, breaks: list[str]
) -> None:
    job_id = submit_job().id
    losing = LosesAnswers(database.url, *breaks)
    claim = Claim(losing, settings, job_id, me)
    for _ in breaks:
        with pytest.raises(errors.StoreUnavailable):
            claim.take()

    taken = claim.take()

    assert taken is not None
    assert (taken[0].job_id, taken[0].fence, taken[0].lease_owner) == (job_id, 1, me.lease_owner)
    assert state_of(database, job_id) == (JobState.BUILDING, 1)
    attempts.advance(database, taken[0], JobState.RUNNING, "runs")  # its fence is the current one
    losing.close()


def test_what_somebody_else_has_got_meanwhile_is_not_ours(
    database: Database, settings: Settings, submit_job: SubmitJob, me: Holder
) -> None:
    job_id = submit_job().id
    losing = LosesAnswers(database.url, "after")
    claim = Claim(losing, settings, job_id, me)
    with pytest.raises(errors.StoreUnavailable):
        claim.take()
    with database.begin() as tx:  # handed back, and claimed by another worker
        tx.execute(text("UPDATE job SET fence = 2, lease_owner = 'other/1', worker = 'other'"))
    assert claim.take() is None
    losing.close()


def test_a_second_slot_of_the_same_worker_does_not_take_the_firsts_claim_for_its_own(
    database: Database, settings: Settings, submit_job: SubmitJob, me: Holder
) -> None:
    job_id = submit_job().id
    losing = LosesAnswers(database.url, "before")
    claim = Claim(losing, settings, job_id, me)
    with pytest.raises(errors.StoreUnavailable):
        claim.take()
    assert attempts.claim(database, settings, job_id, me) is not None
    assert claim.take() is None
    losing.close()
