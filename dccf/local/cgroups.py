"""The control groups of a private daemon: one name for all, limits for builds, and nothing left at the end."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from pathlib import Path

#: What all RUN instructions of BuildKit may use together; the daemon itself knows no such limit.
BUILD_MEMORY_BYTES = 2 << 30
BUILD_PIDS = 1024

_ROOT = Path("/sys/fs/cgroup")
_REMOVE_SECONDS = 3.0
_POLL_SECONDS = 0.05


def name_for(folder: Path) -> str:
    """Name the group of the daemon that keeps its data in a folder."""
    return "dccf-" + hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:12]


def limit_builds(parent_group: str) -> None:
    """Make BuildKit's control group before BuildKit does, with limits.

    BuildKit ignores the memory of a build request, but keeps the limits of a group that exists (measured).
    """
    version_2 = (_ROOT / "cgroup.controllers").exists()
    if version_2:
        group = _ROOT / parent_group / "buildkit"
        group.mkdir(parents=True, exist_ok=True)
        for folder in (_ROOT, _ROOT / parent_group):
            (folder / "cgroup.subtree_control").write_text("+memory +pids")
        limits = {group / "memory.max": BUILD_MEMORY_BYTES, group / "pids.max": BUILD_PIDS}
    else:
        memory, pids = (_ROOT / kind / parent_group / "buildkit" for kind in ("memory", "pids"))
        for group in (memory, pids):
            group.mkdir(parents=True, exist_ok=True)
        limits = {memory / "memory.limit_in_bytes": BUILD_MEMORY_BYTES, pids / "pids.max": BUILD_PIDS}
        swap = memory / "memory.memsw.limit_in_bytes"
        if swap.exists():
            limits[swap] = BUILD_MEMORY_BYTES
    for file, value in limits.items():
        file.write_text(str(value))


def remove(parent_group: str) -> None:
    """Remove the daemon's control groups, deepest first; a group with a process left in it stays.

    The kernel lets go of a killed process's groups a little after the process is gone, hence the second tries.
    """
    deadline = time.monotonic() + _REMOVE_SECONDS
    while roots := [group for group in (_ROOT / parent_group, *_ROOT.glob(f"*/{parent_group}")) if group.exists()]:
        for root in roots:
            for folder, _, _ in os.walk(root, topdown=False):
                with contextlib.suppress(OSError):
                    Path(folder).rmdir()
        if time.monotonic() > deadline:
            return
        time.sleep(_POLL_SECONDS)
