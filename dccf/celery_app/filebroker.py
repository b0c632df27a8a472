"""kombu's file transport with one change: a message appears in its folder whole, or not at all.

kombu creates a message's file under its final name and then writes into it; a reader that comes
between the two takes an empty file, and the message (a hint, an event for Flower) is gone.
"""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import Any

from kombu.exceptions import ChannelError
from kombu.transport import TRANSPORT_ALIASES, filesystem
from kombu.utils.json import dumps


class Channel(filesystem.Channel):
    """A channel whose messages are renamed into place."""

    def _put(self, queue: str, payload: Any, **_: Any) -> None:  # type: ignore[override] # kombu's classes disagree
        # Readers take the files in the order of their names, and only those that end in `.<queue>.msg`.
        name = f"{round(time.monotonic() * 1000)}_{uuid.uuid4()}.{queue}.msg"
        folder = Path(self.data_folder_out)
        hidden = folder / f"{name}.new"
        try:
            hidden.write_text(dumps(payload), "utf-8")
            hidden.replace(folder / name)
        except OSError as error:
            raise ChannelError(f"the message cannot be written to {folder}: {error}") from error


class Transport(filesystem.Transport):
    """The file transport with such channels."""

    Channel = Channel


def register() -> None:
    """Put this transport in place of kombu's for ``filesystem://`` URLs of this process."""
    TRANSPORT_ALIASES["filesystem"] = f"{__name__}:Transport"
