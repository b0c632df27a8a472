"""What jobs left behind on their worker's machine when all of them have ended."""

from __future__ import annotations

import re
from pathlib import Path

from tests.acceptance.conftest import Stack


def leftovers(stack: Stack) -> list[str]:
    """Name the containers, volumes and images of jobs, and the file systems and files of their output."""
    client = stack.docker()
    try:
        containers = [f"container {found['Names']} ({found['State']})" for found in client.containers(all=True)]
        volumes = [f"volume {found['Name']}" for found in client.volumes()["Volumes"] or []]
        images = [
            f"image {found['Id'][7:19]} {found['RepoTags'] or []} {found['Labels'] or {}}"
            for found in client.images()
            if not is_kept(found["RepoTags"] or [])
        ]
    finally:
        client.close()
    return [*containers, *volumes, *images, *output_mounts(stack), *output_files(stack)]


def is_kept(tags: list[str]) -> bool:
    """Whether an image is the base image, or one that the next job with the same files will use again."""
    return "busybox:latest" in tags or any(tag.startswith("dccf-job:cache-") for tag in tags)


def output_mounts(stack: Stack) -> list[str]:
    """List what is mounted for jobs' output where the worker is, and where its daemon is."""
    ours = re.compile(rf"{re.escape(str(stack.folder))}/output/|.*/volumes/dccf-")
    found = set()
    for pid in stack.processes():
        try:
            lines = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError, OSError):
            continue
        found |= {f"mount {line.split()[4]}" for line in lines if ours.match(line.split()[4])}
    return sorted(found)


def output_files(stack: Stack) -> list[str]:
    """List what lies in the workers' output folders."""
    return [f"file {path}" for path in (stack.folder / "output").glob("*/*")]
