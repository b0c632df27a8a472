"""Limits per owner, and turns between owners, on a real PostgreSQL."""

from __future__ import annotations

import threading
from uuid import UUID

import pytest

from dccf import errors
from dccf.administration import OwnerLimits
from dccf.config import Settings
from dccf.lifecycle import attempts, hints, leases, owners
from dccf.lifecycle.attempts import Holder
from dccf.store import fleet, history
from dccf.store.backlog import InFlight
from dccf.store.database import Database
from tests.integration.lifecycle.conftest import GetJob, SubmitJob

pytestmark = pytest.mark.postgres


def live_worker(database: Database, name: str = "test-worker", slots: int = 2, queue: str = "default") -> None:
    with database.begin() as tx:
        fleet.beat_worker(tx, name, f"{name}/1", queues=[queue], slots=slots, engine="fake", version="0", message="")


def test_at_the_queued_limit_a_submit_is_refused_with_the_way_out(
    database: Database, settings: Settings, submit_job: SubmitJob
) -> None:
    owners.set_limits(database, settings, "ann", OwnerLimits(queued=2))
    first = submit_job(idempotency_key="k")
    submit_job()
    with pytest.raises(errors.LimitReached, match="ann has 2 jobs waiting"):
        submit_job()
    assert first.id == submit_job(idempotency_key="k").id, "the same submit again is no further job"
    submit_job(owner="bob")
    submit_job(is_admitted=True)


def test_submits_at_once_do_not_pass_the_queued_limit_together(
    database: Database, settings: Settings, submit_job: SubmitJob
) -> None:
    owners.set_limits(database, settings, "ann", OwnerLimits(queued=3))
    barrier = threading.Barrier(8)
    refused: list[bool] = []

    def submit_one() -> None:
        barrier.wait()
        try:
            submit_job()
        except errors.LimitReached:
            refused.append(True)

    threads = [threading.Thread(target=submit_one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 5


def test_at_the_running_limit_a_claim_is_refused_and_the_job_says_why_once(
    database: Database, settings: Settings, submit_job: SubmitJob, get_job: GetJob, me: Holder
) -> None:
    owners.set_limits(database, settings, "ann", OwnerLimits(running=1))
    first, second = submit_job(), submit_job()
    assert attempts.claim(database, settings, first.id, me) is not None
    for _ in range(2):
        assert attempts.claim(database, settings, second.id, me) is None

    assert get_job(second.id).message.startswith("owner limit of 1 running job reached")
    with database.begin() as tx:
        said = [event.message for event in history.get_events(tx, second.id)]
    assert len([message for message in said if "owner limit" in message]) == 1
    assert attempts.claim(database, settings, submit_job(owner="bob").id, me) is not None


def test_two_claims_at_once_do_not_pass_the_running_limit_together(
    database: Database, settings: Settings, submit_job: SubmitJob
) -> None:
    owners.set_limits(database, settings, "ann", OwnerLimits(running=2))
    submitted = [submit_job().id for _ in range(8)]
    barrier = threading.Barrier(8)
    won: list[UUID] = []

    def claim(place: int) -> None:
        barrier.wait()
        if attempts.claim(database, settings, submitted[place], Holder(f"w{place}", f"w{place}/1")):
            won.append(submitted[place])

    threads = [threading.Thread(target=claim, args=(place,)) for place in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 2


def test_no_more_hints_go_out_than_an_owner_may_run_and_another_ones_end_makes_room(
    database: Database, settings: Settings, submit_job: SubmitJob, me: Holder
) -> None:
    limited = settings.model_copy(update={"owner_running_limit": 2})
    for _ in range(5):
        submit_job()
    first = hints.take_due(database, limited)
    assert len(first) == 2
    for hint in first:
        assert attempts.claim(database, limited, hint.job_id, me)
    assert hints.take_due(database, limited) == []
    gone = limited.model_copy(update={"retry_backoff_seconds": 60})
    leases.release_earlier(database, gone, Holder(me.worker, "test-worker/2"))
    assert len(hints.take_due(database, limited)) == 2


def test_a_queue_has_one_hint_out_for_each_live_slot(
    database: Database, settings: Settings, submit_job: SubmitJob
) -> None:
    live_worker(database, slots=2)
    submitted = [submit_job() for _ in range(5)]
    assert len(hints.take_due(database, settings)) == 2
    assert hints.take_first(database, settings, submitted[-1].id) == []


def test_after_a_burst_the_next_free_place_is_the_newcomers(
    database: Database, settings: Settings, submit_job: SubmitJob, me: Holder
) -> None:
    live_worker(database, slots=2)
    for _ in range(20):
        submit_job(owner="many")
    first, second = hints.take_due(database, settings)
    late = submit_job(owner="few")
    attempts.claim(database, settings, first.job_id, me)
    assert [late.id] == [hint.job_id for hint in hints.take_due(database, settings)]
    attempts.claim(database, settings, second.job_id, me)
    assert [hint.job_id for hint in hints.take_due(database, settings)] != [late.id]


def test_a_new_job_does_not_pass_those_that_are_due(
    database: Database, settings: Settings, submit_job: SubmitJob
) -> None:
    submit_job()
    assert hints.take_first(database, settings, submit_job().id) == []


def test_a_hint_that_an_idle_worker_does_not_answer_is_sent_again(
    database: Database, settings: Settings, submit_job: SubmitJob, me: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hints, "UNANSWERED_SECONDS", 0.0)
    live_worker(database, slots=1)
    job = submit_job()
    assert len(hints.take_due(database, settings)) == 1
    assert [job.id] == [hint.job_id for hint in hints.take_due(database, settings)], "the worker is idle"
    busy = submit_job()
    assert attempts.claim(database, settings, busy.id, me)
    assert hints.take_due(database, settings) == [], "the worker is busy, the hint waits behind its job"


def test_what_is_chosen_is_fair_bounded_and_in_order() -> None:
    lane_a, lane_b = ("q", "a"), ("q", "b")
    a, b = [UUID(int=number) for number in range(4)], [UUID(int=number) for number in range(10, 12)]
    chosen = hints.choose({lane_a: a, lane_b: b}, InFlight({lane_a: 1}, {}), {"q": 4}, {"a": 9, "b": 9})
    assert chosen == [b[0], a[0], b[1], a[1]]
    chosen = hints.choose({lane_a: a, lane_b: b}, InFlight({}, {}), {"q": 4}, {"a": 1, "b": 9})
    assert chosen == [a[0], b[0], b[1]]


def test_usage_shows_what_counts(database: Database, settings: Settings, submit_job: SubmitJob, me: Holder) -> None:
    owners.set_limits(database, settings, "ann", OwnerLimits(running=3))
    submit_job()
    attempts.claim(database, settings, submit_job().id, me)
    (usage,) = owners.get_usage(database, settings, None)
    assert (usage.owner, usage.running, usage.queued) == ("ann", 1, 1)
    assert (usage.limits.running, usage.limits.queued) == (3, settings.owner_queued_limit)
    assert usage.own.queued is None
