"""Flower's questions to the workers, not asked while there are none."""

from __future__ import annotations

from flower import app as flower_app
from flower.inspector import Inspector

from dccf import errors
from dccf.celery_app import DccfCelery
from dccf.store import fleet


def install(app: DccfCelery) -> None:
    """Let Flower ask all workers only when one is alive: else it logs that its questions "failed".

    That was so in the first seconds of `dccf up`, where Flower is ready before the worker is.
    """

    class PatientInspector(Inspector):
        """Flower's inspector, which knows from PostgreSQL whether anybody can answer."""

        def _inspect(self, method: str, workername: str | None) -> None:
            if workername is not None or has_workers(app):
                super()._inspect(method, workername)

    flower_app.Inspector = PatientInspector


def has_workers(app: DccfCelery) -> bool:
    """Tell whether a worker is alive; one might be as long as PostgreSQL does not say that none is."""
    try:
        with app.database.begin() as tx:
            return any(worker.is_alive for worker in fleet.get_workers(tx))
    except errors.StoreUnavailable:
        return True
