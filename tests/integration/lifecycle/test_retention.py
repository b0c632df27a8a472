"""What has ended long ago is removed by rule; what has not ended never is."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest
from sqlalchemy import text

from dccf import errors
from dccf.administration import RetentionRule
from dccf.config import Settings
from dccf.controller import retention
from dccf.lifecycle import attempts, cancel, removal
from dccf.lifecycle.attempts import Holder
from dccf.models import LogChunk, Stream
from dccf.store import chords, jobs, logs
from dccf.store.database import Database
from tests.integration.lifecycle.conftest import SubmitJob
from tests.integration.lifecycle.test_life import DONE, claimed, collecting

pytestmark = pytest.mark.postgres


def with_rules(settings: Settings, *rules: str) -> Settings:
    return settings.model_copy(update={"retention": tuple(RetentionRule.parse(rule) for rule in rules)})


def ended(database: Database, settings: Settings, job_id: UUID, me: Holder, days: int) -> UUID:
    """Bring a job with a log to its end, so many days ago."""
    lease = collecting(database, claimed(database, settings, job_id, me))
    with database.begin() as tx:
        chunk = LogChunk(seq=0, fence=lease.fence, stream=Stream.STDOUT, at=datetime.now(UTC), data=b"said")
        logs.add(tx, job_id, [chunk])
    attempts.finish(database, settings, lease, DONE)
    with database.begin() as tx:
        tx.execute(
            text("UPDATE job SET finished_at = now() - make_interval(days => :days) WHERE id = :id"),
            {"days": days, "id": job_id},
        )
    return job_id


def left(database: Database, table: str = "job", column: str = "id") -> set[UUID]:
    with database.begin() as tx:
        return set(tx.execute(text(f"SELECT {column} FROM {table}")).scalars())


def test_old_jobs_go_with_all_that_belongs_to_them_and_those_that_have_not_ended_stay(
    database: Database, settings: Settings, submit_job: SubmitJob, me: Holder
) -> None:
    old = ended(database, settings, submit_job().id, me, 40)
    young = ended(database, settings, submit_job().id, me, 10)
    queued, running = submit_job().id, submit_job().id
    claimed(database, settings, running, me)
    with database.begin() as tx:
        tx.execute(text("UPDATE job SET created_at = now() - interval '1 year'"))
    rules = with_rules(settings, "jobs=30d")

    assert [count for _, count in retention.preview(database, rules)] == [1]
    retention.RetentionWalk(database, rules).run_through()

    assert left(database) == {young, queued, running}
    for table in ("attempt", "job_event", "log_chunk"):
        assert old not in left(database, table, "job_id")


def test_the_first_rule_whose_label_a_job_has_decides(
    database: Database, settings: Settings, submit_job: SubmitJob, me: Holder
) -> None:
    made = {
        name: ended(database, settings, submit_job({"labels": labels}).id, me, 5)
        for name, labels in {
            "plain": {},
            "kept": {"keep": "yes", "ci": "nightly"},
            "nightly": {"ci": "nightly"},
        }.items()
    }
    rules = with_rules(settings, "jobs=30d", "jobs[keep=yes]=never", "jobs[ci=nightly]=2d")
    retention.RetentionWalk(database, rules).run_through()
    assert left(database) == {made["plain"], made["kept"]}


def test_logs_and_history_go_before_their_jobs(
    database: Database, settings: Settings, submit_job: SubmitJob, me: Holder
) -> None:
    job_id = ended(database, settings, submit_job().id, me, 5)
    young = ended(database, settings, submit_job().id, me, 0)
    rules = with_rules(settings, "logs=2d", "events=3d")
    assert [count for _, count in retention.preview(database, rules)] == [1, 1]
    retention.RetentionWalk(database, rules).run_through()
    assert left(database) == {job_id, young}
    assert left(database, "log_chunk", "job_id") == {young}
    assert left(database, "job_event", "job_id") == {young}
    assert [count for _, count in retention.preview(database, rules)] == [0, 0]


def test_a_walk_goes_on_where_it_was_in_bounded_steps(
    database: Database, settings: Settings, submit_job: SubmitJob, me: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)
    for number in range(5):
        ended(database, settings, submit_job({"labels": {"keep": "yes"}} if number < 3 else {}).id, me, 50 - number)
    walk = retention.RetentionWalk(database, with_rules(settings, "jobs=30d", "jobs[keep=yes]=never"))
    assert [walk.step() for _ in range(4)] == [0, 1, 1, 0]
    assert len(left(database)) == 3


def test_a_job_that_somebody_holds_or_whose_continuation_is_to_be_sent_is_left_for_later(
    database: Database, settings: Settings, submit_job: SubmitJob, me: Holder
) -> None:
    held = ended(database, settings, submit_job().id, me, 40)
    followed = ended(database, settings, submit_job(has_continuation=True).id, me, 40)
    with database.begin() as tx:
        jobs.lock(tx, held)
        retention.RetentionWalk(database, with_rules(settings, "jobs=30d")).run_through()
    assert left(database) == {held, followed}


def test_bundles_without_a_job_go_after_a_week(database: Database, settings: Settings, submit_job: SubmitJob) -> None:
    first, second = submit_job(), submit_job()
    cancel.cancel(database, first.id, "ann")
    removal.remove(database, first.id)
    with database.begin() as tx:
        tx.execute(text("UPDATE bundle SET created_at = now() - interval '8 days'"))
    retention.RetentionWalk(database, settings).run_through()
    assert left(database, "bundle") == {second.bundle_id}


def test_only_an_ended_job_of_ones_own_can_be_removed(database: Database, submit_job: SubmitJob) -> None:
    job = submit_job()
    with pytest.raises(errors.Conflict, match="is queued; cancel it first"):
        removal.remove(database, job.id)
    cancel.cancel(database, job.id, "ann")
    with pytest.raises(errors.NotFound):
        removal.remove(database, job.id, owner="bob")
    removal.remove(database, job.id, owner="ann")
    with pytest.raises(errors.NotFound):
        removal.remove(database, job.id)


@pytest.mark.parametrize("rule", ["jobs", "jobs=5", "files=5d", "jobs[a]=5d", "jobs=-1d"])
def test_a_rule_that_is_none_is_refused_with_the_ways_to_write_one(rule: str) -> None:
    with pytest.raises(ValueError, match="is not a retention rule; write jobs, logs"):
        RetentionRule.parse(rule)


def test_chords_that_are_over_and_notes_of_removed_jobs_go_after_a_while(
    database: Database, settings: Settings, submit_job: SubmitJob, me: Holder
) -> None:
    kept, forgotten = (ended(database, settings, submit_job().id, me, 1) for _ in range(2))
    removal.remove(database, kept)
    removal.remove(database, forgotten)
    with database.begin() as tx:
        for group in ("sent", "just sent", "waits", "never ends"):
            chords.set_size(tx, group, 2)
            chords.add_part(tx, group, 0, chords.Part("t", "SUCCESS", "{}"))
        for statement in (
            "UPDATE chord SET created_at = now() - interval '8 days'",
            "UPDATE chord SET delivered_at = now() - interval '8 days' WHERE group_id = 'sent'",
            "UPDATE chord SET delivered_at = now() WHERE group_id = 'just sent'",
            "UPDATE chord SET created_at = now() - interval '91 days' WHERE group_id = 'never ends'",
        ):
            tx.execute(text(statement))
        tx.execute(
            text("UPDATE removed_job SET removed_at = now() - interval '8 days' WHERE id = :id"), {"id": forgotten}
        )

    retention.RetentionWalk(database, settings).run_through()

    with database.begin() as tx:
        assert set(tx.execute(text("SELECT group_id FROM chord")).scalars()) == {"just sent", "waits"}
        assert set(tx.execute(text("SELECT group_id FROM chord_part")).scalars()) == {"just sent", "waits"}
    assert left(database, "removed_job") == {kept}
