"""Jobs to sweep."""

from tests.integration.lifecycle.conftest import get_job, me, submit_job

__all__ = ["get_job", "me", "submit_job"]
