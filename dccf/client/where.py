"""Where the API is, and the token for it.

The first of these that names a URL decides: arguments, the environment, the configuration file, a
running ``dccf up`` of this user, and at last port 8080 of this machine.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dccf import errors

URL_VARIABLE = "DCCF_API_URL"
TOKEN_VARIABLE = "DCCF_TOKEN"  # noqa: S105 - the name of a variable
STATE_VARIABLE = "DCCF_STATE_FOLDER"
DEFAULT_URL = "http://127.0.0.1:8080"


@dataclass(frozen=True)
class Where:
    """An API, the token for it, and where the two were found."""

    url: str
    token: str | None = field(repr=False)
    source: str


def find(url: str | None = None, token: str | None = None, environ: Mapping[str, str] | None = None) -> Where:
    """Find the API and the token.

    A token that stands in a file goes only to the URL that stands beside it, so that nobody gets the
    token of another service by being named on the command line.

    Raises:
        ConfigError: a file cannot be read as what it should be.
    """
    environ = os.environ if environ is None else environ
    url = _plain(url)
    token = token or environ.get(TOKEN_VARIABLE)
    sources = [
        (url, None, "the arguments"),
        (_plain(environ.get(URL_VARIABLE)), None, URL_VARIABLE),
        _read_config(_config_path(environ)),
        _read_running(_state_folder(environ) / "client.json"),
        (DEFAULT_URL, None, "the default"),
    ]
    chosen, its_token, source = next(one for one in sources if one[0])
    beside = next((one[1] for one in sources if one[0] == chosen and one[1]), None)
    return Where(str(chosen), token or its_token or beside, source)


Source = tuple[str | None, str | None, str]


def _plain(url: Any) -> str | None:
    return str(url).rstrip("/") if url else None


def _config_path(environ: Mapping[str, str]) -> Path:
    base = environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "dccf" / "config.toml"


def _state_folder(environ: Mapping[str, str]) -> Path:
    """Give the folder of ``dccf up``: the same that :func:`dccf.config_values.default_state_folder` gives."""
    if STATE_VARIABLE in environ:
        return Path(environ[STATE_VARIABLE])
    if os.geteuid() == 0:
        return Path("/var/lib/dccf")
    base = environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "dccf"


def _read_config(path: Path) -> Source:
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None, None, str(path)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise errors.ConfigError(f"{path} cannot be read: {error}") from error
    return _plain(values.get("url")), values.get("token"), str(path)


def _read_running(path: Path) -> Source:
    try:
        values = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None, None, str(path)  # there is none, or it is another user's
    except (OSError, ValueError) as error:
        raise errors.ConfigError(f"{path} cannot be read: {error}") from error
    return _plain(values.get("url")), values.get("token"), f"the running dccf up ({path})"
