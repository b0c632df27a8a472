"""Queries that remove what has ended long ago; never anything of a job that is not at its end."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    delete,
    exists,
    false,
    func,
    not_,
    or_,
    select,
    text,
    true,
    tuple_,
)

from dccf.administration import Kept, RetentionRule
from dccf.store.jobs import seconds
from dccf.store.tables import artifact, bundle, job, job_event, log_chunk, removed_job, schedule

#: A place in a walk: a time, and an id among those of the same time.
Place: TypeAlias = "tuple[datetime, UUID]"

# It is noted that they were there: somebody may still wait for the result of one.
_REMOVE_JOBS = text("""
    WITH locked AS MATERIALIZED (
        SELECT id FROM job WHERE id = ANY(CAST(:ids AS uuid[])) AND finished_at IS NOT NULL FOR UPDATE SKIP LOCKED
    ), removed AS (
        DELETE FROM job USING locked WHERE job.id = locked.id RETURNING job.id
    )
    INSERT INTO removed_job (id) SELECT id FROM removed ON CONFLICT (id) DO UPDATE SET removed_at = now()
""")

_TABLES = {Kept.LOGS: log_chunk, Kept.ARTIFACTS: artifact, Kept.EVENTS: job_event}


@dataclass(frozen=True)
class Step:
    """A part of a walk: jobs that the rule is for, and where to go on; ``None`` when the walk is over."""

    job_ids: tuple[UUID, ...]
    next_place: Place | None


def _has_label(rule: RetentionRule) -> ColumnElement[bool]:
    return true() if rule.label is None else job.c.spec["labels"].contains({rule.label[0]: rule.label[1]})


def _is_meant(rule: RetentionRule, rules: Sequence[RetentionRule]) -> ColumnElement[bool]:
    """Tell whether a rule is the one for a job: rules with labels come before the one without, in their order."""
    of_kind = [other for other in rules if other.what is rule.what]
    ordered = [other for other in of_kind if other.label] + [other for other in of_kind if not other.label]
    earlier = ordered[: ordered.index(rule)]
    return and_(_has_label(rule), not_(or_(false(), *[_has_label(other) for other in earlier])))


def _is_old(rule: RetentionRule) -> ColumnElement[bool]:
    if rule.age_seconds is None:
        return false()
    return and_(
        job.c.finished_at.is_not(None),
        job.c.finished_at < func.now() - seconds(rule.age_seconds),
        ~job.c.continuation_pending,  # what follows it has still to be sent, and needs its row
    )


def find(
    tx: Connection, rule: RetentionRule, rules: Sequence[RetentionRule], after: Place | None, limit: int
) -> Step:
    """Look at the next jobs that are old enough, in the order of their ends."""
    statement = (
        select(job.c.id, job.c.finished_at, _is_meant(rule, rules).label("is_meant"))
        .where(_is_old(rule))
        .order_by(job.c.finished_at, job.c.id)
        .limit(limit)
    )
    if after is not None:
        statement = statement.where(tuple_(job.c.finished_at, job.c.id) > tuple_(*after))
    rows = tx.execute(statement).all()
    next_place = (rows[-1].finished_at, rows[-1].id) if len(rows) == limit else None
    return Step(tuple(row.id for row in rows if row.is_meant), next_place)


def count(tx: Connection, rule: RetentionRule, rules: Sequence[RetentionRule]) -> int:
    """Count the jobs that a rule would take something from."""
    statement = select(func.count()).select_from(job).where(_is_old(rule), _is_meant(rule, rules))
    if rule.what is not Kept.JOBS:
        statement = statement.where(exists().where(_TABLES[rule.what].c.job_id == job.c.id))
    return tx.execute(statement).scalar_one()


def remove(tx: Connection, what: Kept, job_ids: Collection[UUID]) -> int:
    """Remove something of ended jobs; give the number of rows. Jobs that others have locked are left for later."""
    if not job_ids:
        return 0
    if what is Kept.JOBS:
        return int(tx.execute(_REMOVE_JOBS, {"ids": [str(job_id) for job_id in job_ids]}).rowcount)
    locked = (
        select(job.c.id)
        .where(job.c.id.in_(job_ids), job.c.finished_at.is_not(None))
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    table = _TABLES[what]
    return int(tx.execute(delete(table).where(table.c.job_id.in_(locked))).rowcount)


def was_removed(tx: Connection, job_id: UUID) -> bool:
    """Tell whether there was such a job not long ago."""
    return tx.execute(select(removed_job.c.id).where(removed_job.c.id == job_id)).first() is not None


def remove_unused_bundles(
    tx: Connection, after: Place | None, least_age_seconds: float, limit: int
) -> tuple[int, Place | None]:
    """Remove bundles that no job and no schedule has; give their number and where to go on."""
    statement = (
        select(bundle.c.id, bundle.c.created_at)
        .where(bundle.c.created_at < func.now() - seconds(least_age_seconds))
        .order_by(bundle.c.created_at, bundle.c.id)
        .limit(limit)
    )
    if after is not None:
        statement = statement.where(tuple_(bundle.c.created_at, bundle.c.id) > tuple_(*after))
    rows = tx.execute(statement).all()
    unused = (
        select(bundle.c.id)
        .where(
            bundle.c.id.in_([row.id for row in rows]),
            ~exists().where(job.c.bundle_id == bundle.c.id),
            ~exists().where(schedule.c.bundle_id == bundle.c.id),
        )
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    removed = int(tx.execute(delete(bundle).where(bundle.c.id.in_(unused))).rowcount) if rows else 0
    return removed, (rows[-1].created_at, rows[-1].id) if len(rows) == limit else None
