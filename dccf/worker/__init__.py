"""The worker: claims jobs and drives them through a :class:`~dccf.runner.base.Runner` to their end.

One main process (Celery's, with the :mod:`~dccf.worker.keeper`) and one pool process a slot; the two
sides meet on the :mod:`~dccf.worker.board`.
"""
