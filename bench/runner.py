"""What the runner costs over the plain Docker command line, on a daemon of our own.

    scripts/bench runner [--rounds N] [--docker CLI] [--quick]

Builds and runs the same small Dockerfile in turn with ``docker build -q && docker run --rm`` (BuildKit, no network)
and with the runner, so that both see the same moods of the machine, and gives medians. Then: containers a second at
1, 2 and 4 slots; builds cold and repeated; 1 GiB and 10,000 files out of ``/output``; 100 MB of short lines; the most
memory that the worker's side needed.

``--docker`` names the command line to compare with; the one of the daemon's own version is fair (Debian's
``docker.io`` 20.10 has it; a newer one without buildx builds with the classic builder).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from dccf.config import Settings
from dccf.local.daemon import PrivateDaemon
from dccf.models import Stream
from dccf.runner.docker_runner import DockerRunner
from tests.runner_kit import Play, runner_settings

TARGET_OVERHEAD_SECONDS = 0.150
DOCKERFILE = "FROM busybox\nCOPY a /a\nRUN cat /a > /b\nCMD cat /b; printf x > /output/x; printf y > /output/y\n"
GIB_OUT = "FROM busybox\nCMD head -c 512m /dev/zero > /output/a; head -c 511m /dev/zero > /output/b\n"
FILES_OUT = (
    "FROM busybox\nCMD cd /output; head -c 4096 /dev/zero > /tmp/f; "
    "for d in $(seq 100); do mkdir $d; for f in $(seq 100); do cat /tmp/f > $d/$f; done; done\n"
)
LINES = "FROM busybox\nCMD yes 0123456789abcde | head -c 100m\n"


class Count:
    """A log that counts, as the worker's does not keep what is over its caps either."""

    def __init__(self) -> None:
        self.size = 0

    def write(self, stream: Stream, data: bytes) -> None:
        """Count it."""
        self.size += len(data) if stream is Stream.STDOUT else 0


def timed(call: Callable[[], object]) -> float:
    """Give the seconds that a call takes."""
    began = time.monotonic()
    call()
    return time.monotonic() - began


def play_once(runner: DockerRunner, text: str, owner: str | None = None, dockerfile: str = DOCKERFILE) -> None:
    """Do with the runner all that a job needs of it."""
    play = Play(runner)
    play.owner = owner
    try:
        play.build_and_run(dockerfile, {"a": text.encode()})
        play.collect()
    finally:
        play.close()


def command_line(docker: str, url: str, folder: Path, text: str) -> float:
    """Do the same by hand; give the seconds, without those of removing the image."""
    (folder / "Dockerfile").write_text(DOCKERFILE)
    (folder / "a").write_text(text)
    output = folder / "output"
    output.mkdir(exist_ok=True)
    output.chmod(0o777)
    environment = {**os.environ, "DOCKER_BUILDKIT": "1", "DOCKER_HOST": url}

    def call(*arguments: str) -> str:
        done = subprocess.run([docker, *arguments], env=environment, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    began = time.monotonic()
    image = call("build", "-q", "--no-cache", "--network", "none", str(folder))
    call("run", "--rm", "--network", "none", "-v", f"{output}:/output", image)
    seconds = time.monotonic() - began
    call("rmi", image)
    return seconds


def overhead(runner: DockerRunner, docker: str, url: str, rounds: int) -> bool:
    """Compare, taking turns."""
    by_hand, by_runner, again = [], [], []
    with tempfile.TemporaryDirectory() as name:
        for number in range(rounds + 1):
            text = f"{number} {os.urandom(4).hex()}"
            hand = command_line(docker, url, Path(name), text)
            ours = timed(partial(play_once, runner, text))
            kept = timed(partial(play_once, runner, "same", "ann"))
            if number:  # the first of each warms up
                by_hand.append(hand)
                by_runner.append(ours)
                again.append(kept)
    difference = statistics.median(by_runner) - statistics.median(by_hand)
    show("docker build -q && docker run --rm", statistics.median(by_hand))
    show("runner, built anew, all removed", statistics.median(by_runner))
    show("runner, the same files again", statistics.median(again))
    show("overhead of the runner (target 0.150)", difference)
    return difference <= TARGET_OVERHEAD_SECONDS


def phases(runner: DockerRunner, rounds: int) -> None:
    """Say where the runner's time goes."""
    seen: dict[str, list[float]] = {"build": [], "run": [], "collect": [], "remove": []}
    for number in range(rounds):
        play = Play(runner)
        began = time.monotonic()
        image = play.build(DOCKERFILE, {"a": str(number).encode()})
        seen["build"].append(time.monotonic() - began)
        seen["run"].append(timed(partial(play.run, image)))
        seen["collect"].append(timed(play.collect))
        seen["remove"].append(timed(play.close))
    for name, values in seen.items():
        show(f"  {name}", statistics.median(values))


def throughput(settings: Settings, slots: int, jobs: int) -> None:
    """Run small jobs of the same files in several threads at once, each with a runner of its own."""
    runners = [DockerRunner(settings) for _ in range(slots)]
    for runner in runners:
        play_once(runner, "same", "ann")

    def work(runner: DockerRunner) -> None:
        for _ in range(jobs):
            play_once(runner, "same", "ann")

    threads = [threading.Thread(target=work, args=(runner,)) for runner in runners]

    def all_of_them() -> None:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    print(f"{f'containers a second at {slots} slots':<44} {slots * jobs / timed(all_of_them):8.2f}")


def large_outputs(settings: Settings) -> None:
    """Fetch much out of /output, with a hash, in each store."""
    for store in ("loop", "plain", "archive"):
        runner = DockerRunner(settings.model_copy(update={"output_store": store}))
        for name, dockerfile in (("1 GiB", GIB_OUT), ("10,000 files", FILES_OUT)):
            play = Play(runner)
            show(f"{name} out, {store}: build, write", timed(partial(play.build_and_run, dockerfile)))
            show(f"{name} out, {store}: collect and hash", timed(partial(drain, play)))
            show(f"{name} out, {store}: remove", timed(play.close))


def drain(play: Play) -> None:
    """Read and hash every file."""
    for file in play.runner.collect(play.attempt, play.spec):
        digest = hashlib.sha256()
        for chunk in file.chunks:
            digest.update(chunk)


def short_lines(runner: DockerRunner) -> None:
    """Print 100 MB in lines of 16 bytes."""
    play = Play(runner)
    count = Count()
    image = play.build(LINES)
    seconds = timed(partial(runner.run, play.attempt, play.spec, image, count, play.stop))
    play.close()
    show(f"{count.size >> 20} MiB of 16-byte lines", seconds)


def show(name: str, seconds: float) -> None:
    """Print one line of the table."""
    print(f"{name:<44} {seconds:8.3f} s", flush=True)


def main() -> int:
    """Measure on a daemon of our own; the exit code tells whether the overhead is within its target."""
    parser = argparse.ArgumentParser(prog="scripts/bench runner", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="times that each of the compared is done")
    parser.add_argument("--docker", default="docker", help="the command line to compare with")
    parser.add_argument("--quick", action="store_true", help="the comparison only")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dccf-bench-") as name:
        daemon = PrivateDaemon(Path(name, "docker"))
        daemon.start()
        try:
            daemon.ensure_busybox()
            settings = runner_settings(docker_url=daemon.docker_url, state_folder=Path(name))
            return measure(settings, options)
        finally:
            daemon.stop()


def measure(settings: Settings, options: argparse.Namespace) -> int:
    """Measure all."""
    runner = DockerRunner(settings)
    info = runner.check()
    print(f"Docker {info.version}, {info.builder}, /output in a {runner.store_kind} store")
    is_fast = overhead(runner, options.docker, settings.docker_url, options.rounds)
    phases(runner, options.rounds)
    if not options.quick:
        show("check before each job", timed(runner.check))
        for slots in (1, 2, 4):
            throughput(settings, slots, max(4, options.rounds // slots))
        short_lines(runner)
        large_outputs(settings)
    print(f"{'most memory of the worker':<44} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10:6} MiB")
    return 0 if is_fast else 1


if __name__ == "__main__":
    sys.exit(main())
