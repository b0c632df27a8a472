"""What a member holds, and what it has decided and not told the broker yet."""

import collections
from collections.abc import Callable
from typing import Any

from dccf.transport.acknowledgements import Offsets, collect
from dccf.transport.acquired import Record, State
from dccf.transport.protocol import Acknowledgement
from dccf.transport.records import Position
from dccf.transport.wire import Address


class Ledger:
    """Records of one member. `settle` and `held` may be called from any thread, the rest belongs to the member's."""

    def __init__(self) -> None:
        self._held: dict[Position, Record] = {}
        self._decisions: collections.deque[tuple[Record, Acknowledgement]] = collections.deque()

    @property
    def holds_any(self) -> bool:
        """Tell whether any record is held."""
        return bool(self._held)

    @property
    def has_decisions(self) -> bool:
        """Tell whether there is something to tell the broker."""
        return bool(self._decisions)

    @property
    def gives_back(self) -> bool:
        """Tell whether a record among the decisions is for others."""
        return any(what is Acknowledgement.RELEASE for _, what in list(self._decisions))

    def held(self) -> list[Record]:
        """Return the records that are held, oldest first."""
        return list(self._held.values())

    def hold(self, records: list[Record]) -> None:
        """Take in records that were acquired."""
        self._held.update((record.position, record) for record in records)

    def settle(self, record: Record, what: Acknowledgement) -> bool:
        """Decide a record; tell whether it was still held."""
        if record.state is not State.HELD:
            return False
        record.state = State.SETTLED
        self._held.pop(record.position, None)
        self._decisions.append((record, what))
        return True

    def renew(self) -> None:
        """Decide to go on holding all that is held."""
        self._decisions.extend((record, Acknowledgement.RENEW) for record in self.held())

    def lose(self, which: Callable[[Record], bool]) -> int:
        """Forget records that the broker gives to others; return how many were held."""
        lost = [record for record in self.held() if which(record)]
        for record in lost:
            record.state = State.LOST
            self._held.pop(record.position, None)
        # Acknowledgements on their way are void as well: the broker would refuse them.
        self._decisions.extend([(record, what) for record, what in self._drain() if not which(record)])
        return len(lost)

    def take(self, leader_of: Callable[[int], Address]) -> dict[Address, Offsets]:
        """Return what is to be acknowledged, by the leader of its partition; it is then no longer here."""
        by_leader: dict[Address, list[tuple[Any, int, int, Acknowledgement]]] = {}
        for record, what in self._drain():
            if what is Acknowledgement.RENEW and record.state is not State.HELD:
                continue
            at = record.position
            by_leader.setdefault(leader_of(at.partition), []).append((at.topic_id, at.partition, at.offset, what))
        return {leader: collect(entries) for leader, entries in by_leader.items()}

    def _drain(self) -> list[tuple[Record, Acknowledgement]]:
        taken = []
        while self._decisions:
            taken.append(self._decisions.popleft())
        return taken
