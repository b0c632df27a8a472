"""Queries on chords: how many parts there are, which have returned, whether the body was sent."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, func, select, update
from sqlalchemy.dialects.postgresql import insert

from dccf.store.tables import chord, chord_part


@dataclass(frozen=True)
class Part:
    """A part that has returned; ``result`` is encoded as the result backend does."""

    task_id: str
    state: str
    result: str


def set_size(tx: Connection, group_id: str, size: int) -> None:
    """Note how many parts a chord waits for."""
    statement = insert(chord).values(group_id=group_id, size=size)
    tx.execute(statement.on_conflict_do_update(index_elements=[chord.c.group_id], set_={"size": size}))


def add_part(tx: Connection, group_id: str, position: int | None, part: Part) -> None:
    """Note that a part has returned; again is no harm. Locks the chord, so that one caller sees the last part."""
    tx.execute(insert(chord).values(group_id=group_id).on_conflict_do_nothing())
    tx.execute(select(chord.c.group_id).where(chord.c.group_id == group_id).with_for_update())
    tx.execute(
        insert(chord_part)
        .values(group_id=group_id, task_id=part.task_id, position=position, state=part.state, result=part.result)
        .on_conflict_do_nothing()
    )


def is_due(tx: Connection, group_id: str) -> bool:
    """Tell whether all parts of a chord have returned and its body was not sent yet."""
    returned = select(func.count()).where(chord_part.c.group_id == group_id).scalar_subquery()
    statement = select(chord.c.size <= returned).where(chord.c.group_id == group_id, chord.c.delivered_at.is_(None))
    return bool(tx.execute(statement).scalar())


def get_parts(tx: Connection, group_id: str) -> tuple[Part, ...]:
    """List the parts that have returned, in the order of the group."""
    statement = (
        select(chord_part.c.task_id, chord_part.c.state, chord_part.c.result)
        .where(chord_part.c.group_id == group_id)
        .order_by(chord_part.c.position)
    )
    return tuple(Part(*row) for row in tx.execute(statement))


def note_delivered(tx: Connection, group_id: str) -> None:
    """Note that the body of a chord was sent, or that the chord was failed."""
    tx.execute(update(chord).where(chord.c.group_id == group_id).values(delivered_at=func.now()))
