"""HTTP for the SDK: one session, the service's problems as our errors, careful retries."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
import requests.adapters
import requests.auth

from dccf import errors, loopback
from dccf.client.where import Where
from dccf.errors import DccfError, FieldError

_CONNECT_SECONDS = 5.0
#: Longer than the service's longest wait for a job.
_READ_SECONDS = 90.0
_TRIES = 4
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 10.0
_TRY_AGAIN = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT})

Result = TypeVar("Result")

#: The service's codes; a code that is not among them is decided by its status.
ERRORS_BY_CODE: Mapping[str, type[DccfError]] = {
    "invalid_request": errors.InvalidRequest,
    "idempotency_mismatch": errors.IdempotencyMismatch,
    "not_found": errors.NotFound,
    "conflict": errors.Conflict,
    "limit_reached": errors.LimitReached,
    "not_authenticated": errors.NotAuthenticated,
    "not_allowed": errors.NotAllowed,
    "store_unavailable": errors.StoreUnavailable,
    "broker_unavailable": errors.BrokerUnavailable,
}


class _Bearer(requests.auth.AuthBase):
    """Sends the token; being there, it also keeps requests from sending what stands in a ``.netrc`` instead."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class Http:
    """Sends requests to one API."""

    def __init__(self, where: Where) -> None:
        self.where = where
        self._session = requests.Session()
        # Proxies and certificates of the surroundings count, but nothing on this machine is reached through a proxy.
        self._session.trust_env = urlsplit(where.url).hostname not in loopback.NAMES
        self._session.auth = _Bearer(where.token)

    def close(self) -> None:
        """Close the connections.

        urllib3 leaves that to the garbage collector, and the errors of earlier tries keep its pools alive.
        """
        for adapter in self._session.adapters.values():
            if isinstance(adapter, requests.adapters.HTTPAdapter):
                for manager in (adapter.poolmanager, *adapter.proxy_manager.values()):
                    for key in manager.pools.keys():  # noqa: SIM118 - it is no mapping to iterate over
                        manager.pools[key].close()
        self._session.close()

    def get_json(self, path: str, params: Any = None) -> Any:
        """Get a JSON value, trying again when the service is away for a moment."""
        return self.send("GET", path, params=params)

    def send(self, method: str, path: str, **arguments: Any) -> Any:
        """Send a request that may be repeated without harm, and give the JSON of its answer.

        Raises:
            ApiUnavailable: the service cannot be reached, or its answer is cut off every time.
            DccfError: it answered with a problem.
        """
        return self._try_often(method, path, arguments, self._read_json)

    def get_readiness(self) -> dict[str, Any]:
        """Get the service's checks, also where it answers that it is not ready.

        Raises:
            ApiUnavailable: the service cannot be reached, or it is not DCCF.
        """
        with self._try_once("GET", "/readyz", {}) as response, self._mapped():
            answer: dict[str, Any] = response.json()
        return answer

    @contextmanager
    def open(self, method: str, path: str, **arguments: Any) -> Iterator[requests.Response]:
        """Send a request that may be repeated without harm, and give its streamed answer.

        Raises:
            ApiUnavailable: the service cannot be reached.
            DccfError: it answered with a problem.
        """
        response = self._try_often(method, path, arguments, lambda answer: answer)
        try:
            yield response
        finally:
            response.close()

    def _try_often(
        self, method: str, path: str, arguments: dict[str, Any], read: Callable[[requests.Response], Result]
    ) -> Result:
        """Send until there is an answer that can be read, or no try is left."""
        pause = _FIRST_PAUSE_SECONDS
        for left in reversed(range(_TRIES)):
            try:
                response = self._try_once(method, path, arguments)
                if response.status_code not in _TRY_AGAIN or not left:
                    raise_for_problem(response)
                    return read(response)
                pause = max(pause, _retry_after(response))
                response.close()
            except errors.ApiUnavailable:
                if not left:
                    raise
            time.sleep(min(pause, _LONGEST_PAUSE_SECONDS))
            pause *= 2
        raise AssertionError("the last try always returns or raises")

    def _try_once(self, method: str, path: str, arguments: dict[str, Any]) -> requests.Response:
        timeout = (_CONNECT_SECONDS, _READ_SECONDS)
        with self._mapped():
            url = self.where.url + path
            return self._session.request(
                method, url, stream=True, timeout=timeout, allow_redirects=False, **arguments
            )

    def _read_json(self, response: requests.Response) -> Any:
        with response, self._mapped():
            return response.json()

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        with mapped_errors(self.where.url):
            yield


@contextmanager
def mapped_errors(url: str) -> Iterator[None]:
    """Turn what requests raises into our errors."""
    try:
        yield
    except (
        requests.exceptions.InvalidURL,
        requests.exceptions.InvalidSchema,
        requests.exceptions.MissingSchema,
    ) as error:
        raise errors.ConfigError(f"{url!r} is not the URL of an API; write it like http://127.0.0.1:8080") from error
    except requests.exceptions.JSONDecodeError as error:
        raise errors.ApiUnavailable(f"{url} answered with something else than JSON; is it DCCF?") from error
    except requests.exceptions.RequestException as error:
        raise errors.ApiUnavailable(
            f"the API at {url} cannot be reached. Is it running (dccf up, dccf api), and is the URL right?"
        ) from error


def raise_for_problem(response: requests.Response) -> None:
    """Raise the error that an answer describes, if it does.

    Raises:
        DccfError: it does.
    """
    if response.status_code < HTTPStatus.MULTIPLE_CHOICES:
        return
    try:
        body = response.json()
    except (requests.exceptions.RequestException, ValueError):
        body = None
    finally:
        response.close()
    problem = body if isinstance(body, dict) else {}
    unknown = (
        f"{response.url} answered {response.status_code} {response.reason}, and not as DCCF does; is the URL right?"
    )
    detail = str(problem.get("detail") or unknown)
    raise _error_of(str(problem.get("code", "")), response.status_code, detail, problem.get("errors") or ())


def _error_of(code: str, status: int, detail: str, fields: Any) -> DccfError:
    kind = ERRORS_BY_CODE.get(code)
    if kind is None:
        kind = errors.ApiUnavailable if status >= HTTPStatus.INTERNAL_SERVER_ERROR else errors.InvalidRequest
    if issubclass(kind, errors.InvalidRequest):
        found = tuple(FieldError(str(one.get("pointer")), str(one.get("detail"))) for one in fields)
        return kind(detail, found)
    return kind(detail)


def _retry_after(response: requests.Response) -> float:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else 0.0
