"""Queries on the heartbeats of workers and controllers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, delete, func, select, text
from sqlalchemy.dialects.postgresql import insert

from dccf.administration import SweepStats
from dccf.fields import Frozen
from dccf.store.tables import controller, worker

#: A heartbeat older than this belongs to a process that is gone.
ALIVE_SECONDS = 30


_CAPACITY = text("""
    SELECT queue, sum(worker.slots) AS slots, bool_or(worker.slots > held.jobs) AS is_idle
    FROM worker, unnest(worker.queues) queue,
    LATERAL (SELECT count(*) AS jobs FROM job WHERE job.worker = worker.name AND lease_expires_at IS NOT NULL) held
    WHERE heartbeat_at > now() - make_interval(secs => :alive) AND message = ''
    GROUP BY queue
""")


class WorkerInfo(Frozen):
    """A worker as it last described itself."""

    name: str
    queues: tuple[str, ...]
    slots: int
    engine: str
    version: str
    message: str
    started_at: datetime
    heartbeat_at: datetime
    is_alive: bool


class ControllerInfo(Frozen):
    """A controller as it last described itself."""

    id: str
    version: str
    sweeps: dict[str, SweepStats]
    started_at: datetime
    heartbeat_at: datetime
    is_alive: bool


def beat_worker(
    tx: Connection,
    name: str,
    lease_owner: str,
    *,
    queues: Sequence[str],
    slots: int,
    engine: str,
    version: str,
    message: str,
) -> None:
    """Note a worker's sign of life and what it says of itself."""
    values = {
        "lease_owner": lease_owner,
        "queues": list(queues),
        "slots": slots,
        "engine": engine,
        "version": version,
        "message": message,
    }
    statement = insert(worker).values(name=name, **values)
    tx.execute(
        statement.on_conflict_do_update(index_elements=[worker.c.name], set_={**values, "heartbeat_at": func.now()})
    )


def forget_worker(tx: Connection, name: str, lease_owner: str) -> None:
    """Remove a worker that has shut down, unless a newer life of it has taken its name, and those long silent."""
    silent = worker.c.heartbeat_at < func.now() - func.make_interval(0, 0, 0, 1)
    tx.execute(delete(worker).where(((worker.c.name == name) & (worker.c.lease_owner == lease_owner)) | silent))


def get_workers(tx: Connection) -> tuple[WorkerInfo, ...]:
    """List all workers that have not said goodbye."""
    is_alive = worker.c.heartbeat_at > func.now() - func.make_interval(0, 0, 0, 0, 0, 0, ALIVE_SECONDS)
    columns = [worker.c[name] for name in WorkerInfo.model_fields if name != "is_alive"]
    rows = tx.execute(select(*columns, is_alive.label("is_alive")).order_by(worker.c.name))
    return tuple(WorkerInfo.model_validate({**row._mapping, "queues": tuple(row.queues)}) for row in rows)


class Capacity(NamedTuple):
    """What live workers that take jobs offer to a queue."""

    slots: int
    #: Whether one of them holds fewer jobs than it has slots.
    is_idle: bool


def get_capacity(tx: Connection) -> dict[str, Capacity]:
    """Give what each queue has; a slot counts for every queue that its worker listens on."""
    rows = tx.execute(_CAPACITY, {"alive": ALIVE_SECONDS})
    return {row.queue: Capacity(row.slots, row.is_idle) for row in rows}


def count_slots(tx: Connection) -> dict[str, int]:
    """Count the slots of each queue."""
    return {queue: capacity.slots for queue, capacity in get_capacity(tx).items()}


def beat_controller(tx: Connection, controller_id: str, version: str, sweeps: Mapping[str, SweepStats]) -> None:
    """Note a controller's sign of life and what its sweeps did."""
    values = {"sweeps": {name: stats.model_dump() for name, stats in sweeps.items()}}
    statement = insert(controller).values(id=controller_id, version=version, **values)
    tx.execute(
        statement.on_conflict_do_update(index_elements=[controller.c.id], set_={**values, "heartbeat_at": func.now()})
    )


def get_controllers(tx: Connection) -> tuple[ControllerInfo, ...]:
    """List all controllers that have not said goodbye."""
    is_alive = controller.c.heartbeat_at > func.now() - func.make_interval(0, 0, 0, 0, 0, 0, ALIVE_SECONDS)
    rows = tx.execute(select(controller, is_alive.label("is_alive")).order_by(controller.c.started_at))
    return tuple(ControllerInfo.model_validate(dict(row._mapping)) for row in rows)


def forget_controller(tx: Connection, controller_id: str) -> None:
    """Remove a controller that shuts down."""
    tx.execute(delete(controller).where(controller.c.id == controller_id))


def count_live_controllers(tx: Connection) -> int:
    """Count the controllers that are alive."""
    alive = controller.c.heartbeat_at > func.now() - func.make_interval(0, 0, 0, 0, 0, 0, ALIVE_SECONDS)
    return tx.execute(select(func.count()).select_from(controller).where(alive)).scalar_one()
