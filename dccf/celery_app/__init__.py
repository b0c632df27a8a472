"""The Celery application: its settings, the result backend that reads jobs, revoke, and hints.

``app`` reads its settings from the environment when it is first used, not when it is imported.
"""

from dccf import transport
from dccf.celery_app import filebroker
from dccf.celery_app.app import DccfCelery

__all__ = ["DccfCelery", "app"]

filebroker.register()
transport.register()
app = DccfCelery("dccf")
