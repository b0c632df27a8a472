"""Acknowledgements on their way to the broker: pure bookkeeping, no I/O."""

import uuid
from collections.abc import Iterable, Mapping

from dccf.transport.protocol import Acknowledgement

#: topic id -> partition -> offset -> what to say about it
Offsets = dict[uuid.UUID, dict[int, dict[int, Acknowledgement]]]
#: First offset, last offset, what to say about all of them.
Range = tuple[int, int, Acknowledgement]


def ranges(offsets: Mapping[int, Acknowledgement]) -> list[Range]:
    """Join neighbouring offsets with the same acknowledgement, in ascending order."""
    found: list[Range] = []
    for offset in sorted(offsets):
        what = offsets[offset]
        if found and found[-1][1] == offset - 1 and found[-1][2] is what:
            found[-1] = (found[-1][0], offset, what)
        else:
            found.append((offset, offset, what))
    return found


def collect(pairs: Iterable[tuple[uuid.UUID, int, int, Acknowledgement]]) -> Offsets:
    """Arrange acknowledgements by topic and partition; a later one about the same record wins."""
    arranged: Offsets = {}
    for topic_id, partition, offset, what in pairs:
        arranged.setdefault(topic_id, {}).setdefault(partition, {})[offset] = what
    return arranged


def window_check_delay_seconds(finished: int, finished_before: int, elapsed_seconds: float, half: int) -> float:
    """Return when to look again at a window that a held record keeps open: in time for half of it, at most 10 s."""
    rate = max((finished - finished_before) / max(elapsed_seconds, 0.001), 1.0)
    return min(10.0, max(0.5, (half - finished) / rate / 4))
