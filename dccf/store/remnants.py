"""Queries that remove what reminds of something long gone: chords, removed jobs, silent processes, ended tokens."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, Table, delete, func, or_, select, text

from dccf.store.jobs import seconds
from dccf.store.tables import api_token, chord, controller, removed_job, worker

# Celery's own tables: they are there once it has stored a result. Their times are in UTC, without a zone. What a
# chord with groups in its header still has to read stays: the group, and the results of parts that have returned.
_CELERY_TABLES = {
    "celery_taskmeta": "task_id NOT IN (SELECT task_id FROM chord_part JOIN chord USING (group_id)"
    " WHERE delivered_at IS NULL)",
    "celery_tasksetmeta": "taskset_id NOT IN (SELECT group_id FROM chord WHERE delivered_at IS NULL)",
}


def remove(tx: Connection, age_seconds: float, chord_age_seconds: float, token_age_seconds: float, limit: int) -> int:
    """Remove up to a number of each kind; give the number of rows.

    A chord whose body was sent goes after ``age_seconds``, one that waits for parts, which may never
    come, after ``chord_age_seconds``; a token that long after its end.
    """
    old = func.now() - seconds(age_seconds)
    is_over = or_(chord.c.delivered_at < old, chord.c.created_at < func.now() - seconds(chord_age_seconds))
    ended = func.now() - seconds(token_age_seconds)
    removed = _remove(tx, chord, [chord.c.created_at < old, is_over], chord.c.created_at, limit)
    removed += _remove(tx, removed_job, [removed_job.c.removed_at < old], removed_job.c.removed_at, limit)
    for process in (worker, controller):
        removed += _remove(tx, process, [process.c.heartbeat_at < old], process.c.heartbeat_at, limit)
    has_ended = or_(api_token.c.revoked_at < ended, api_token.c.expires_at < ended)
    return removed + _remove(tx, api_token, [has_ended], api_token.c.created_at, limit)


def _remove(
    tx: Connection, table: Table, conditions: Sequence[ColumnElement[bool]], order: ColumnElement[object], limit: int
) -> int:
    (key,) = table.primary_key.columns
    found = select(key).where(*conditions).order_by(order).limit(limit).with_for_update(skip_locked=True)
    return int(tx.execute(delete(table).where(key.in_(found.scalar_subquery()))).rowcount)


def remove_celery_results(tx: Connection, age_seconds: float, limit: int) -> int:
    """Remove up to a number of old results of tasks that are no jobs, and of saved groups; give their number."""
    removed = 0
    for table, is_needless in _CELERY_TABLES.items():
        if tx.execute(select(func.to_regclass(table))).scalar() is None:
            continue
        # In the order of their ids, which is nearly that of their times, so that reading stops early.
        statement = text(
            f"DELETE FROM {table} WHERE id IN (SELECT id FROM {table}"  # noqa: S608 - names of our own, above
            " WHERE date_done < (now() AT TIME ZONE 'UTC') - make_interval(secs => :age)"
            f" AND {is_needless} ORDER BY id LIMIT :limit FOR UPDATE SKIP LOCKED)"
        )
        removed += tx.execute(statement, {"age": age_seconds, "limit": limit}).rowcount
    return removed
