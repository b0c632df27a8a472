"""Where nobody is asked who they are: only this machine may ask, by a name of its own and from a page of its own."""

from __future__ import annotations

from urllib.parse import urlsplit

from dccf import errors

NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


def require_names(host: str, origin: str | None) -> None:
    """Refuse what a web page elsewhere could have sent, by its own name or by one that it points at us.

    ``host`` and ``origin`` are the headers of a request. A browser sends the page's origin with everything but reads
    whose answers it keeps from the page (Fetch, section 3.2), and a name that was pointed at 127.0.0.1 as the host.

    Raises:
        NotAllowed: the request names another host than this machine, or comes from a page of one.
    """
    for header, url in (("Host", f"//{host}"), ("Origin", origin)):
        if url is not None and _host_name(url) not in NAMES:
            raise errors.NotAllowed(
                f"authentication is off here, so only this machine may ask; the header {header} names another one"
            )


def _host_name(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
