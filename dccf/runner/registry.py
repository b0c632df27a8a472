"""Passwords of registries, for the worker's own pulls: read from a file like Docker's ``config.json``, never kept.

The file is read anew for each pull, so that a changed one counts at once (a mounted Kubernetes Secret, say).
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

#: How Docker's own tools call the registry of images without a host.
_HUB = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})


class UnusableAuthFile(Exception):
    """Raised when the file cannot be used; says why, and nothing of what is in it."""


def host_of(full_name: str) -> str:
    """Give the host, perhaps with a port, of an image's full name."""
    return full_name.partition("/")[0]


def header_for(file: Path | None, full_name: str) -> dict[str, str]:
    """Give the header that lets the daemon pull an image (``X-Registry-Auth``); none where there is no password.

    Raises:
        UnusableAuthFile: the file cannot be read or makes no sense.
    """
    if file is None:
        return {}
    host = host_of(full_name)
    for key, entry in _entries(file).items():
        if _is_for(key, host):
            sent = {**_credentials(entry, key), "serveraddress": host}
            return {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(sent).encode()).decode()}
    return {}


def hosts_in(file: Path) -> list[str]:
    """List the hosts that a file has passwords for.

    Raises:
        UnusableAuthFile: the file, or an entry of it, makes no sense.
    """
    entries = _entries(file)
    for key, entry in entries.items():
        _credentials(entry, key)
    return [_host_in(key) for key in entries]


def _entries(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text("utf-8")
    except OSError as error:
        raise UnusableAuthFile(f"it cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        text = ""
    # Causes show pieces of the text.
    auths = _parsed(text).get("auths")
    if not isinstance(auths, dict):
        raise UnusableAuthFile('it is no JSON object with "auths", as docker login writes it')
    return auths


def _parsed(text: str) -> dict[str, Any]:
    try:
        parsed = json.loads(text)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _is_for(key: str, host: str) -> bool:
    """Tell whether an entry is for a host; keys may be URLs, as Docker Hub's is."""
    named = _host_in(key)
    return named == host or {named, host} <= _HUB


def _host_in(key: str) -> str:
    return (key.partition("://")[2] or key).partition("/")[0]


def _credentials(entry: Any, key: str) -> dict[str, str]:
    found = entry if isinstance(entry, dict) else {}
    if isinstance(found.get("identitytoken"), str):
        return {"identitytoken": found["identitytoken"]}
    name, password = found.get("username"), found.get("password")
    if isinstance(found.get("auth"), str) and found["auth"]:
        name, _, password = _decoded(found["auth"]).partition(":")
    if not (isinstance(name, str) and isinstance(password, str) and name and password):
        raise UnusableAuthFile(f"the entry {key} has no user and password; credential helpers are not used")
    return {"username": name, "password": password}


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text).decode()
    except ValueError:
        return ""
