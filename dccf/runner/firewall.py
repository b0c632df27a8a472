"""Whether containers with a network are kept away from all that is not public: asked of a container itself.

The rules are those of ``firewall.sh``, which the administrator runs (``dccf firewall | sudo sh``) and which the image
``dccf-dind`` brings. Rules that stand in a table say nothing of what they do behind others, so they are tried.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from importlib import resources
from typing import Any

from dccf.config import Settings
from dccf.fields import MIB
from dccf.models import StopCause, Stream
from dccf.runner import images
from dccf.runner import spec as translation
from dccf.runner.base import AttemptRef
from dccf.runner.engine import Engine
from dccf.runner.keptlog import KeptLog
from dccf.runner.wire import Refused

#: Addresses that are tried; nobody needs to be there. No more: the kernel sends few rejections at once to one host.
PRIVATE = ("169.254.169.254", "10.255.255.254", "192.168.255.254")
#: How long an answer holds: rules may be flushed, or be set while the worker runs.
GOOD_SECONDS, BAD_SECONDS = 300.0, 10.0
# The daemon's namespace answers a ping unless it is told not to. A rejected packet comes back as "No route to host";
# without the rules a connection is refused, opened, or waited for. The kernel takes note of a rejection that comes
# while it still sends only with one of the next tries, after 1, 3 and 7 s (measured: mostly the first of them).
_SCRIPT = f"""
gateway=$(ip route | awk '$1 == "default" {{ print $3 }}')
ping -c 1 -W 1 "$gateway" >/dev/null 2>&1 && echo "$gateway"
for address in {" ".join(PRIVATE)}; do
  (nc -w 8 "$address" 80 </dev/null 2>&1 >/dev/null | grep -q 'No route to host' || echo "$address") &
done
wait
echo done
"""


def script() -> str:
    """Give the script that sets the rules."""
    return resources.files("dccf.runner").joinpath("firewall.sh").read_text("utf-8")


class Firewall:
    """What one daemon's containers with a network reach; remembered for a while."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        """Try with the image of the self-test, which has a shell, ``ping`` and ``nc`` as busybox does."""
        self._engine = engine
        self._settings = settings
        self._opening = ""
        self._valid_until = 0.0

    def opening(self) -> str:
        """Say what a container with a network reaches that it must not; empty when nothing.

        Raises:
            AttemptFailed: the image for the trial cannot be had.
            EngineUnavailable: the daemon does not answer.
        """
        if time.monotonic() >= self._valid_until:
            self._opening = self._try()
            self._valid_until = time.monotonic() + (BAD_SECONDS if self._opening else GOOD_SECONDS)
        return self._opening

    def _try(self) -> str:
        silence = _Silence()
        image = self._settings.self_test_image
        images.ensure(self._engine, [(0, image)], silence, silence, self._settings)
        attempt = AttemptRef(uuid.uuid4(), 1, self._settings.worker_name)
        name = translation.helper_name_of(attempt)
        try:
            self._engine.create(name, _config(image, translation.labels_of(attempt)))
            self._engine.start(name)
            self._engine.wait(name)
            said = _Words()
            KeptLog(self._engine, name, said, MIB).read_rest()
        except Refused as error:
            return f"the Docker daemon has no network for containers ({error})"
        finally:
            self._engine.remove_container(name)
        return _sentence(said.text.split())


def _config(image: str, labels: dict[str, str]) -> dict[str, Any]:
    return {
        "Image": image,
        "Entrypoint": ["sh", "-c", _SCRIPT],
        "User": "0:0",
        "Labels": labels,
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": {
            "NetworkMode": "bridge",
            "ReadonlyRootfs": True,
            "PidsLimit": 32,
            "Memory": 32 * MIB,
            "LogConfig": {"Type": "local"},
        },
    }


def _sentence(reached: Sequence[str]) -> str:
    if not reached or reached[-1] != "done":
        return "whether containers are kept from private addresses could not be tried: the trial broke off"
    if len(reached) == 1:
        return ""
    return f"containers are not kept from private addresses: nothing rejects {', '.join(reached[:-1])}"


class _Silence:
    """A log and a stop signal for pulls that nobody watches."""

    def write(self, stream: Stream, data: bytes) -> None:
        """Drop it."""

    def cause(self) -> StopCause | None:
        """Go on."""
        return None


class _Words:
    """A log that is remembered."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, stream: Stream, data: bytes) -> None:  # noqa: ARG002 - a sink's signature
        """Keep it."""
        self.text += data.decode("utf-8", "replace")
