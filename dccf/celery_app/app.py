"""The Celery class of DCCF: a usual application whose configuration comes from our settings."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from celery import Celery
from kombu.exceptions import KombuError
from kombu.utils.imports import symbol_by_name

from dccf import config
from dccf.celery_app import conf, request
from dccf.celery_app.sender import HintSender
from dccf.config import Settings
from dccf.store.database import Database


class DccfCelery(Celery):
    """A Celery application that knows jobs.

    Its result backend reads jobs from their rows, its control cancels jobs through PostgreSQL, and
    its configuration is that of :mod:`dccf.celery_app.conf`.
    """

    control_cls = "dccf.celery_app.control:JobControl"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, set_as_current=False, include=["dccf.tasks"], **kwargs)

    @cached_property
    def settings(self) -> Settings:
        """The settings, read on first use.

        Raises:
            ConfigError: a setting is missing or not allowed.
        """
        return config.load()

    @cached_property
    def database(self) -> Database:
        """The PostgreSQL that the settings name."""
        return Database(self.settings.database_url)

    @cached_property
    def broker_errors(self) -> tuple[type[Exception], ...]:
        """What publishing raises when the broker is away or refuses a message."""
        transport = self.connection_for_write().transport
        return (KombuError, OSError, *transport.connection_errors, *transport.channel_errors)

    @cached_property
    def hint_sender(self) -> HintSender:
        """What sends the first hints of jobs submitted here."""
        # By name, as Celery finds its own parts: sending needs this module.
        send_or_put_back = symbol_by_name("dccf.celery_app.dispatch:send_or_put_back")
        return HintSender(lambda hints: send_or_put_back(self, self.database, hints))

    def _task_from_fun(self, *args: Any, **kwargs: Any) -> Any:
        # A task whose making fails half-way (a setting is missing) would stay half-made in the registry.
        _ = self.settings
        return super()._task_from_fun(*args, **kwargs)

    def send_task(self, name: str, *args: Any, **options: Any) -> Any:
        """Send a task by name; the arguments of a job, which may hold secrets, show in no event."""
        if name == conf.TASK_NAME:
            options = {"argsrepr": request.HIDDEN, "kwargsrepr": request.HIDDEN, **options}
        return super().send_task(name, *args, **options)

    def prepare_config(self, given: Any) -> Any:
        """Put our configuration under whatever else was given (Celery's hook)."""
        return super().prepare_config({**conf.build(self.settings), **(given or {})})
