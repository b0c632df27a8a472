"""The Python SDK: submit a Dockerfile over HTTP, follow it, get what it wrote.

from dccf.client import Client

job = Client().submit("examples/hello", timeout_seconds=60)
for text in job.logs(follow=True):
    print(text, end="")
job.wait().raise_for_status()
job.download("output")
"""

from dccf.client.client import Client
from dccf.client.job import JobHandle, LogEvent, StateEvent

__all__ = ["Client", "JobHandle", "LogEvent", "StateEvent"]
