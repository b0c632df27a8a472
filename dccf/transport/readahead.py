"""How many records to ask for: free slots, and a few more while tasks are short. Pure functions and one average."""

_WEIGHT_OF_LATEST = 0.2
#: Where the average starts: long, so that read-ahead has to be earned.
_START_SECONDS = 1.0


class HoldTime:
    """Moving average of the time from acquiring a record to its acknowledgement."""

    def __init__(self) -> None:
        self.seconds = _START_SECONDS

    def add(self, seconds: float) -> None:
        """Take in one more record."""
        self.seconds += (seconds - self.seconds) * _WEIGHT_OF_LATEST


def wanted(*, prefetch: int, in_use: int, ahead: int, queues: int, unlimited: int) -> int:
    """Return how many records one queue may ask for now.

    Every queue may ask for one while a slot is free, or a queue would wait for the others' turns; what is free
    beyond that is shared.

    Args:
        prefetch: slots of the channel, 0 for no limit.
        in_use: records that are with the consumer or wait for it.
        ahead: records that may wait beyond the slots.
        queues: queues of the channel that are consumed.
        unlimited: records to ask for when there is no limit.
    """
    if prefetch == 0:
        return max(0, unlimited - in_use) if in_use > unlimited // 2 else unlimited
    free = prefetch + ahead - in_use
    return max(1, free // max(1, queues)) if free > 0 else 0


def ahead(*, average_seconds: float, oldest_seconds: float, below_ms: int, most: int) -> int:
    """Return how many records may wait beyond the slots: none as soon as one task takes long."""
    return most if max(average_seconds, oldest_seconds) * 1000 < below_ms else 0
