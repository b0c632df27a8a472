"""From a kombu connection to settings: addresses, security, prefix, options; and URLs that hide the password."""

import ssl
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, cast
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from dccf.transport import names, options

DEFAULT_PORT = 9092
SCHEMES = ("kafka", "kafka+ssl")

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]


@dataclass(frozen=True)
class Security:
    """How to talk to a broker. Its password never shows in a representation."""

    protocol: SecurityProtocol = "PLAINTEXT"
    mechanism: str = "PLAIN"
    user: str = ""
    password: str = field(default="", repr=False)
    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None
    check_hostname: bool = True

    @property
    def uses_tls(self) -> bool:
        """Tell whether connections are encrypted."""
        return self.protocol in ("SSL", "SASL_SSL")

    @property
    def uses_sasl(self) -> bool:
        """Tell whether connections log in."""
        return self.protocol in ("SASL_PLAINTEXT", "SASL_SSL")


@dataclass(frozen=True)
class Settings:
    """All that a client of one cluster needs to know; equal settings share a client."""

    servers: tuple[tuple[str, int], ...]
    security: Security
    names: names.Names
    options: options.Options


@dataclass(frozen=True)
class _Url:
    servers: tuple[tuple[str, int], ...]
    user: str
    password: str = field(repr=False)
    prefix: str
    tls: bool


def parse_url(url: str) -> _Url:
    """Return the parts of one URL: `kafka[+ssl]://[user:password@]host[:port][,host...][/prefix]`."""
    parts = urlsplit(url if "://" in url else f"kafka://{url}")
    if any("@" in part for part in (parts.path, parts.query, parts.fragment)):
        # What stands before that is a part of the password, so nothing of it is repeated.
        raise ValueError(
            "the broker URL has an @ behind its host: in user, password and prefix, write / ? # @ as %2F ..."
        )
    credentials, _, hosts = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    return _Url(
        servers=tuple(parse_server(host) for host in hosts.split(",") if host),
        user=unquote(user),
        password=unquote(password),
        prefix=unquote(parts.path).strip("/"),
        # kombu cuts `kafka+` off before the transport sees the URL.
        tls=parts.scheme in ("kafka+ssl", "ssl"),
    )


def parse_server(text: str) -> tuple[str, int]:
    """Return host and port of `host`, `host:port` or `[IPv6]:port`."""
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host:
        # What was given may be a password in the wrong place, here and in the error of the library.
        raise ValueError(
            "a broker's address must be host or host:port with a number as port; with a user, user:password@host:port"
        ) from None
    return host, port or DEFAULT_PORT


def masked_url(url: str, mask: str = "**") -> str:
    """Return a URL, or several separated by semicolons, with every password replaced."""
    return ";".join(_masked(single, mask) for single in url.split(";"))


def _masked(url: str, mask: str) -> str:
    parts = urlsplit(url)
    credentials, separator, hosts = parts.netloc.rpartition("@")
    user, colon, _ = credentials.partition(":")
    hidden = f"{user}{colon}{mask if colon else ''}{separator}{hosts}"
    return urlunsplit(SplitResult(parts.scheme, hidden, parts.path, parts.query, parts.fragment))


def read_settings(client: Any) -> Settings:
    """Return the settings of a kombu `Connection`.

    Raises:
        ValueError: a URL or an option is wrong; the message names it.
    """
    given = client.transport_options or {}
    values = options.checked(given)
    urls = [parse_url(url) for url in _urls(client)]
    first = urls[0]
    user = client.userid or first.user
    return Settings(
        servers=_servers(values["bootstrap_servers"], urls),
        security=_security(client.ssl, values, user, client.password or first.password, tls=first.tls),
        names=names.Names(first.prefix or values["prefix"]),
        options=options.read_options(given),
    )


def _urls(client: Any) -> list[str]:
    """Return the URL in use first, then the alternatives."""
    current = client.hostname or "localhost"
    if client.port and "://" not in current:
        current = f"{current}:{client.port}"
    return [current, *(url for url in client.alt if url != current)]


def _servers(given: str | Iterable[str] | None, urls: Iterable[_Url]) -> tuple[tuple[str, int], ...]:
    if given is None:
        found = [server for url in urls for server in url.servers]
    else:
        texts = given.split(",") if isinstance(given, str) else given
        found = [parse_server(text.strip()) for text in texts]
    return tuple(dict.fromkeys(found)) or (("localhost", DEFAULT_PORT),)


def _security(given: Any, values: dict[str, Any], user: str, password: Any, *, tls: bool) -> Security:
    files = given if isinstance(given, dict) else {}
    protocol = values["security_protocol"]
    if protocol is None:
        encrypted = tls or bool(given)
        protocol = f"SASL_{'SSL' if encrypted else 'PLAINTEXT'}" if user else ("SSL" if encrypted else "PLAINTEXT")
    security = Security(
        protocol=cast("SecurityProtocol", protocol),
        mechanism=values["sasl_mechanism"],
        user=user,
        password=password() if callable(password) else password,
        ca_file=values["ssl_cafile"] or files.get("ca_certs"),
        certificate_file=values["ssl_certfile"] or files.get("certfile"),
        key_file=values["ssl_keyfile"] or files.get("keyfile"),
        check_hostname=values["ssl_check_hostname"],
    )
    _check_files(security)
    return security


def _check_files(security: Security) -> None:
    """Raise if a certificate's file is missing or no certificate: later it would look like a broker that is away."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if security.ca_file:
            context.load_verify_locations(security.ca_file)
    except OSError as error:
        raise ValueError(f"transport option ssl_cafile: cannot use {security.ca_file}: {error}") from error
    try:
        if security.certificate_file:
            context.load_cert_chain(security.certificate_file, security.key_file)
    except OSError as error:
        raise ValueError(
            f"transport options ssl_certfile and ssl_keyfile: cannot use {security.certificate_file}: {error}"
        ) from error
