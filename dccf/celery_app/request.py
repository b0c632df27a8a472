"""A job's message in the worker, whose arguments show in no event, answer or log line."""

from __future__ import annotations

from typing import Any

from celery.worker.request import Request

HIDDEN = "(hidden)"


class JobRequest(Request):
    """Celery's request without a readable form of its arguments.

    DCCF's own messages carry none. One that somebody sends by the task's name carries environment and files, and
    Celery would show the beginning of both in Flower, in `inspect active` and in tracebacks.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self._args or self._kwargs:
            self._argsrepr = self._kwargsrepr = HIDDEN
            self._request_dict.update(argsrepr=HIDDEN, kwargsrepr=HIDDEN)
