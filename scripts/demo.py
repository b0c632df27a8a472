"""The two jobs of scripts/demo; what is printed is what a person wants to know of a job."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from dccf.client import Client, JobHandle

HELLO = Path(__file__).parent.parent / "examples" / "hello"


def show(handle: JobHandle) -> None:
    """Print how a job ended, what it wrote, and how long each phase took."""
    job = handle.refresh()
    print(f"  state {job.state}, exit code {job.exit_code}: {job.message}")
    for line in b"".join(handle.read_log()).decode("utf-8", "replace").splitlines():
        print(f"  log | {line}")
    with tempfile.TemporaryDirectory() as folder:
        for path in handle.download(folder):
            print(f"  /output/{path.relative_to(folder)}: {path.read_text().strip()}")
    times = [job.created_at, job.started_at, job.running_at, job.collecting_at, job.finished_at]
    for name, begin, end in zip(("queued", "building", "running", "collecting"), times, times[1:], strict=False):
        if begin and end:
            print(f"  {name:<10} {(end - begin).total_seconds():6.2f} s")


def rest() -> None:
    """Submit over HTTP."""
    with Client() as client:
        handle = client.submit(HELLO, labels={"demo": "rest"})
        print(f"  job {handle.id} is submitted; waiting for it ...")
        show(handle.wait(120))
        handle.raise_for_status()


def celery() -> None:
    """Submit as a Celery task."""
    from dccf.tasks import run_dockerfile

    result = run_dockerfile.delay(files=HELLO, labels={"demo": "celery"})
    print(f"  task {result.id} is sent; waiting for it ...")
    answer = result.get(timeout=120)
    print(f"  result.get() gave {answer}")
    with Client() as client:
        show(client.job(result.id))


def busybox() -> None:
    """Make sure that the machine's Docker daemon has the image busybox."""
    from dccf.local import busybox as image

    docker_url = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    print(f"  busybox is {image.ensure(docker_url, timeout_seconds=60)}")


if __name__ == "__main__":
    {"rest": rest, "celery": celery, "busybox": busybox}[sys.argv[1]]()
