"""What a member has acquired: a record, and what the broker knows of it."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from dccf.transport.options import QueueOptions
from dccf.transport.protocol import Acknowledgement
from dccf.transport.records import Position


class State(Enum):
    """What the broker will hear, or has heard, about a record."""

    #: Locked for this member and renewed.
    HELD = auto()
    #: The acknowledgement is decided.
    SETTLED = auto()
    #: The broker gave it to somebody else, or will.
    LOST = auto()


@dataclass(eq=False, slots=True)
class Record:
    """A record that was acquired."""

    position: Position
    key: bytes | None
    value: bytes
    #: Deliveries including this one, and those before the message was republished.
    deliveries: int
    #: Deliveries that the broker counts against its limit.
    counted: int
    consumer: "Holder"
    acquired_at: float
    #: When it was handed on; 0 until then.
    delivered_at: float = 0.0
    state: State = State.HELD
    #: It was finished for the broker when it was handed on, so only a copy brings it back.
    finished_by_delivery: bool = False


class Holder(Protocol):
    """The member that holds a record."""

    queue: str
    topic: str
    options: QueueOptions

    def settle(self, record: Record, what: Acknowledgement) -> bool:
        """Decide a record; tell whether it was still held."""

    def wake(self) -> None:
        """Look again at what is to be done."""
