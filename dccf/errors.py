"""Every error of DCCF, in one tree.

    DccfError
    ├── ConfigError              a setting is missing or has a value that is not allowed
    ├── InvalidRequest           what was asked for cannot be done as asked; names the fields
    │   └── IdempotencyMismatch  an idempotency key came again with another request
    ├── NotFound                 there is no such job, file, bundle or token
    ├── LimitReached             the owner has as much as they may have; later there is room again
    ├── Conflict                 the thing is in a state that does not allow this
    ├── NotAuthenticated         no token, or one that is not valid
    ├── NotAllowed               a valid token that may not do this
    ├── StoreUnavailable         PostgreSQL cannot be reached
    ├── BrokerUnavailable        the message broker cannot be reached
    ├── EngineUnavailable        the Docker daemon cannot be reached or misbehaves
    ├── ApiUnavailable           the HTTP API cannot be reached (client side)
    ├── LocalStackError          the one-machine stack cannot start or go on
    ├── FencePassed              this attempt is no longer the job's current one
    ├── AttemptFailed            an attempt ended without success; carries the reason
    ├── AttemptStopped           an attempt was told to stop (cancel, lost, shutdown)
    ├── JobFailed                a job is `failed`; raised by ``AsyncResult.get()`` and the SDK
    └── JobCancelled             a job is `cancelled`; raised by the SDK

Errors of libraries never leave the package that uses the library: each adapter maps them to
one of these with ``raise ... from``.
"""

from __future__ import annotations

from dataclasses import dataclass


class DccfError(Exception):
    """Base of all errors that DCCF raises on purpose."""


class ConfigError(DccfError):
    """Raised when a setting is missing or has a value that is not allowed."""


@dataclass(frozen=True)
class FieldError:
    """One thing that is wrong in a request: a JSON pointer to it and a sentence about it."""

    pointer: str
    detail: str


class InvalidRequest(DccfError):
    """Raised when a request cannot be done as asked; ``errors`` says which fields and why."""

    def __init__(self, detail: str, errors: tuple[FieldError, ...] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors


class IdempotencyMismatch(InvalidRequest):
    """Raised when an idempotency key is used again with a different request."""


class NotFound(DccfError):
    """Raised when there is no such job, artefact, bundle or token (or it is another owner's)."""


class Conflict(DccfError):
    """Raised when the state of a thing does not allow what was asked."""


class LimitReached(DccfError):
    """Raised when an owner has as many jobs as they may have; the same request may work later."""


class NotAuthenticated(DccfError):
    """Raised when a request carries no token or one that is not valid."""


class NotAllowed(DccfError):
    """Raised when a valid token does not allow what was asked."""


class StoreUnavailable(DccfError):
    """Raised when PostgreSQL cannot be reached; the same call may work later."""


class BrokerUnavailable(DccfError):
    """Raised when the message broker cannot be reached; the same call may work later."""


class EngineUnavailable(DccfError):
    """Raised when the Docker daemon cannot be reached or answers with a fault of its own."""


class ApiUnavailable(DccfError):
    """Raised on the client's side when the HTTP API cannot be reached."""


class LocalStackError(DccfError):
    """Raised when the one-machine stack cannot start; says what to do about it."""


class FencePassed(DccfError):
    """Raised when a write came from an attempt that is no longer the job's current one."""


class AttemptFailed(DccfError):
    """Raised when an attempt ends without success.

    ``reason`` is a value of :class:`dccf.models.Reason`; ``message`` is the sentence a person reads.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


class AttemptStopped(DccfError):
    """Raised in an attempt that was told to stop; ``cause`` is a :class:`dccf.models.StopCause` value."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


class JobFailed(DccfError):
    """Raised when the result of a failed job is asked for.

    Carries ``job_id``, ``reason`` (a value of :class:`dccf.models.Reason`), ``message``,
    ``exit_code`` (``None`` when no container ended) and ``log_tail`` (the last lines of stderr
    and stdout, or of the build when it was the build that failed).
    """

    def __init__(
        self, job_id: str, reason: str, message: str, exit_code: int | None = None, log_tail: str = ""
    ) -> None:
        super().__init__(job_id, reason, message, exit_code, log_tail)
        self.job_id = job_id
        self.reason = reason
        self.message = message
        self.exit_code = exit_code
        self.log_tail = log_tail

    def __str__(self) -> str:
        code = "" if self.exit_code is None else f" (exit code {self.exit_code})"
        tail = f"\n{self.log_tail}" if self.log_tail else ""
        return f"{self.reason}{code}: {self.message}{tail}"

    def __repr__(self) -> str:
        return f"JobFailed({self.job_id!r}, reason={self.reason!r}, exit_code={self.exit_code!r}, {self.message!r})"


class JobCancelled(DccfError):
    """Raised by the SDK when the result of a cancelled job is asked for."""
