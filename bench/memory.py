"""How much memory the API and the worker need while large things pass through them.

    scripts/bench memory

Starts ``dccf up`` with a Docker daemon of its own, then sends a bundle of 1,000 files in folders through
a job that gives them all back, and fetches an output file of 300 MB. Every file must come back with the
same sha256. The peak of each process (its own and its children's, VmHWM) is taken before and after; what
is reported is the growth. The largest process counts, since every process has a limit of its own.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from pathlib import Path

from dccf.client import Client
from tests.acceptance.conftest import SETTINGS, Stack, free_port
from tests.processes import DccfProcess, wait_for

BROKER = "kafka"
FILES = 1000
LARGE_BYTES = 300 << 20
LIMIT_BYTES = 64 << 20
DOCKERFILE = f"""FROM busybox
COPY tree /tree
CMD cp -r /tree /output/tree && head -c {LARGE_BYTES} /dev/urandom > /output/large && sha256sum /output/large
"""


def make_bundle(folder: Path) -> dict[str, str]:
    """Write the bundle; give the sha256 of each file by its name."""
    (folder / "Dockerfile").write_text(DOCKERFILE)
    hashes = {}
    for number in range(FILES):
        path = folder / "tree" / f"folder-{number % 20}" / f"sub-{number % 7}" / f"file-{number}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = os.urandom(1 + number * 37 % 50_000)
        path.write_bytes(content)
        hashes[path.relative_to(folder).as_posix()] = hashlib.sha256(content).hexdigest()
    return hashes


def peaks(stack: Stack, name: str) -> dict[int, int]:
    """Give the peak resident bytes of the processes of ``dccf NAME``, by process id."""
    command = b"\0-m\0dccf\0" + name.encode() + b"\0"
    found = {}
    for pid in stack.processes():
        try:
            if not Path(f"/proc/{pid}/cmdline").read_bytes().endswith(command):
                continue
            status = Path(f"/proc/{pid}/status").read_text()
        except FileNotFoundError:
            continue
        found[pid] = next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM"))
    return found


def measure(stack: Stack) -> bool:
    """Send everything through; print what was seen, and tell whether it is within the limit."""
    with tempfile.TemporaryDirectory() as source, tempfile.TemporaryDirectory() as target, stack.client() as client:
        hashes = make_bundle(Path(source))
        warm_up(client)
        before = {name: peaks(stack, name) for name in ("api", "worker")}
        handle = client.submit(source, timeout_seconds=300).wait(600)
        handle.raise_for_status()
        large_hash = b"".join(handle.read_log()).decode().split("  /output/large")[0].split()[-1]
        handle.download(target)
        after = {name: peaks(stack, name) for name in ("api", "worker")}
        came_back = {
            path.relative_to(target).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in Path(target).rglob("*")
            if path.is_file()
        }
    is_same = came_back == {**hashes, "large": large_hash}
    print(f"{len(hashes)} files and one of {LARGE_BYTES >> 20} MiB came back {'whole' if is_same else 'CHANGED'}")
    is_small = True
    for name, peak_of in after.items():
        growth = max(peak - before[name].get(pid, 0) for pid, peak in peak_of.items())
        peak = max(peak_of.values())
        is_small = is_small and growth < LIMIT_BYTES
        print(
            f"{name:<8} peak {peak >> 20} MiB, grew by {growth / (1 << 20):.1f} MiB (limit {LIMIT_BYTES >> 20} MiB)"
        )
    return is_same and is_small


def warm_up(client: Client) -> None:
    """Run small jobs first, so that what is measured is not the loading of modules."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "Dockerfile").write_text("FROM busybox\nCMD echo warm > /output/warm\n")
        handles = [client.submit(folder) for _ in range(8)]
        for handle in handles:
            handle.wait(120).download(folder)


def main() -> int:
    """Measure on a stack of our own."""
    with tempfile.TemporaryDirectory(prefix="dccf-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        api_port, flower_port = free_port(), free_port()
        arguments = ["up", "--folder", name, "--daemon", "private", "--broker", BROKER, "--slots", "2"]
        arguments += ["--api-port", str(api_port), "--flower-port", str(flower_port)]
        process = DccfProcess(arguments, SETTINGS, folder / "up.log")
        try:
            wait_for("the stack", lambda: "DCCF is ready" in process.log_text(), 90)
            return 0 if measure(Stack(folder, api_port, flower_port, BROKER, process)) else 1
        finally:
            process.stop()


if __name__ == "__main__":
    sys.exit(main())
