"""How many records to ask for: free slots, and a few more while tasks are short. Pure functions and one average."""

_WEIGHT_OF_LATEST = 0.2
#: The average of many short tasks and some queueing varies by less.
_LONG_IS_TIMES_AVERAGE = 3
#: Where the average starts: long, so that read-ahead has to be earned.
_START_SECONDS = 1.0


class HoldTime:
    """Moving average of the time from handing a message to Celery to its acknowledgement."""

    def __init__(self) -> None:
        self.seconds = _START_SECONDS

    def add(self, seconds: float) -> None:
        """Take in one more record."""
        self.seconds += (seconds - self.seconds) * _WEIGHT_OF_LATEST


def wanted(*, prefetch: int, in_use: int, waiting: int, ahead: int, queues: int, unlimited: int) -> int:
    """Return how many records one queue may ask for now.

    Every queue may ask for one while a slot is free, or a queue would wait for the others' turns; what is free
    beyond that is shared. While half of what may wait does wait, nothing is asked for: a broker needs about as long
    for an answer with one record as for one with many.

    Args:
        prefetch: slots of the channel, 0 for no limit.
        in_use: messages that are with the consumer.
        waiting: records that wait for it.
        ahead: records that may wait beyond the slots.
        queues: queues of the channel that are consumed.
        unlimited: records to ask for when there is no limit.
    """
    taken = in_use + waiting
    if prefetch == 0:
        return max(0, unlimited - taken) if taken > unlimited // 2 else unlimited
    free = prefetch + ahead - taken
    if free <= 0 or waiting > ahead // 2 > 0:
        return 0
    return max(1, free // max(1, queues))


def is_long(*, average_seconds: float, oldest_seconds: float, within_ms: int) -> bool:
    """Tell whether the oldest task that runs takes much longer than tasks took lately."""
    return oldest_seconds >= max(within_ms / 1000, _LONG_IS_TIMES_AVERAGE * average_seconds)


def ahead(*, prefetch: int, average_seconds: float, within_ms: int, most: int) -> int:
    """Return how many records may wait beyond the slots: those that will have begun within a certain time.

    Args:
        prefetch: slots of the channel.
        average_seconds: how long a task has kept its slot lately.
        within_ms: the time.
        most: the limit.
    """
    return min(most, int(prefetch * within_ms / 1000 / max(average_seconds, 1e-6)))


def patience_seconds(*, is_long: bool, within_ms: int, most: int, give_back_after_ms: int) -> float:
    """Return how long a record may wait for a slot, from its arrival on, before others may have it.

    What was read ahead goes back at once when a task turns out to be long, for it would wait for that task, and in
    any case when it has waited for twice as long as it was meant to. Without read-ahead a record came for a slot that
    another queue took first, and waits longer: every slot is free some time.

    Args:
        is_long: the oldest task that runs takes much longer than others did.
        within_ms: the time in which what is read ahead should begin.
        most: records that may be read ahead.
        give_back_after_ms: the longest wait of all.
    """
    if most == 0:
        return give_back_after_ms / 1000
    return 0.0 if is_long else min(2 * within_ms, give_back_after_ms) / 1000
