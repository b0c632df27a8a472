"""What the daemon says of a pull while it goes on: how far it is, and what went wrong."""

from __future__ import annotations

import json
from typing import Any


class PullProgress:
    """Reads the daemon's answer to a pull, one JSON object a line.

    The size of a layer is known when its download begins; a few begin at once, so what is known grows.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._layers: dict[str, tuple[int, int]] = {}
        #: The daemon's words when it gave up, in the last line of its answer.
        self.error = ""

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the answer."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._take(line)

    @property
    def done_bytes(self) -> int:
        """How much was downloaded."""
        return sum(done for done, _ in self._layers.values())

    @property
    def known_bytes(self) -> int:
        """How much there is to download, as far as is known."""
        return sum(size for _, size in self._layers.values())

    def _take(self, line: bytes) -> None:
        try:
            said: Any = json.loads(line)
            self.error = str(said.get("error", ""))
            status, layer, detail = said.get("status"), str(said.get("id", "")), said.get("progressDetail") or {}
            if status == "Downloading":
                done = int(detail.get("current", 0))
                self._layers[layer] = (done, max(done, int(detail.get("total", 0))))
            elif status in {"Download complete", "Pull complete"} and layer in self._layers:
                size = self._layers[layer][1]
                self._layers[layer] = (size, size)
        except (ValueError, TypeError, AttributeError):  # no line that says anything
            return
