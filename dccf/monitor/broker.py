"""Flower's broker tab for DCCF: the jobs of each queue, and the messages that the broker holds for it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

from flower.utils.broker import Broker, BrokerBase
from kombu.exceptions import ChannelError

from dccf.celery_app import DccfCelery
from dccf.store import fleet, queues

#: The name of the row that tells what the broker holds for a queue.
IN_BROKER = "{queue}: messages in the broker"


class QueueTable(BrokerBase):
    """What the tab shows, whatever broker DCCF runs on.

    Each queue has two rows. Its own counts jobs, from PostgreSQL: ready are those that wait, unacknowledged
    those in work, consumers the workers that are alive. The other counts messages, most of them hints at
    jobs: only a few of many waiting jobs have one out.
    """

    def __init__(self, app: DccfCelery) -> None:
        self._app = app

    async def queues(self, names: Collection[str]) -> list[dict[str, Any]]:
        """Give Flower's rows for these queues, and for those that have jobs or workers."""
        return await asyncio.get_running_loop().run_in_executor(None, self._rows, names)

    def _rows(self, names: Collection[str]) -> list[dict[str, Any]]:
        with self._app.database.begin() as tx:
            known = {info.name: info for info in queues.describe(tx)}
            workers = [worker for worker in fleet.get_workers(tx) if worker.is_alive]
        rows = []
        with self._app.connection_for_read() as connection:
            for name in sorted({*names, *known}):
                info = known.get(name)
                waiting, working = (info.queued, info.running) if info else (0, 0)
                consumers = sum(name in worker.queues for worker in workers)
                rows.append(_row(name, waiting, working, consumers))
                rows.append(_row(IN_BROKER.format(queue=name), _size(connection, name), None, None))
        return rows


def _row(name: str, ready: int, unacknowledged: int | None, consumers: int | None) -> dict[str, Any]:
    return {
        "name": name,
        "messages": ready + (unacknowledged or 0),
        "messages_ready": ready,
        "messages_unacknowledged": unacknowledged,
        "consumers": consumers,
    }


def _size(connection: Any, queue: str) -> int:
    """Count the messages of a queue; one that nobody has declared yet has none."""
    with connection.channel() as channel:
        try:
            return int(channel.queue_declare(queue, passive=True).message_count)
        except ChannelError:
            return 0


def install(app: DccfCelery) -> None:
    """Let Flower show our table; by itself it knows a fixed list of brokers only."""

    def make(cls: type[Broker], *_: Any, **__: Any) -> QueueTable:  # noqa: ARG001 - the signature of __new__
        return QueueTable(app)

    Broker.__new__ = make
