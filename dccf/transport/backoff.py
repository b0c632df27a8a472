"""How long to wait before another try, and what to say about it."""

import logging
import random

from dccf.transport import advice, errors

_FIRST_SECONDS, _LONGEST_SECONDS = 0.05, 1.0
_LOGGED_TRY = 2


class Backoff:
    """Doubles from 50 ms to one second, with jitter, so that clients do not come back all at once."""

    def __init__(self) -> None:
        self._seconds = _FIRST_SECONDS

    def next_seconds(self) -> float:
        """Return how long to wait now."""
        seconds = self._seconds * random.uniform(0.8, 1.2)  # noqa: S311 - jitter is no secret
        self._seconds = min(self._seconds * 2, _LONGEST_SECONDS)
        return seconds

    def reset(self) -> None:
        """Begin again after a success."""
        self._seconds = _FIRST_SECONDS


class Health:
    """Logs one line when something stops to work, and one when it works again."""

    def __init__(self, logger: logging.Logger, what: str) -> None:
        self._logger = logger
        self._what = what
        self._failed_tries = 0

    def failed(self, error: BaseException) -> None:
        """Note a failure; the second of a row is logged, for one alone may be a closed idle connection."""
        self._failed_tries += 1
        if self._failed_tries == _LOGGED_TRY:
            level = logging.WARNING if errors.is_transient(error) else logging.ERROR
            self._logger.log(level, "%s: %s; trying again", self._what, advice.describe(error))

    def worked(self) -> None:
        """Note a success."""
        if self._failed_tries >= _LOGGED_TRY:
            self._logger.warning("%s: works again after %d failed tries", self._what, self._failed_tries)
        self._failed_tries = 0
