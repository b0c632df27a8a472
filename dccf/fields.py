"""How the fields of values are written and checked: sizes, times, names; the base of all values."""

from __future__ import annotations

import difflib
import math
import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)
from pydantic_core import ErrorDetails

from dccf.errors import FieldError

MIB = 1 << 20
GIB = 1 << 30
#: The longest that a job may ask for.
MAX_RUN_SECONDS = 7 * 86400
MAX_BUILD_SECONDS = 86400

_MEMORY = re.compile(r"(?i)\s*(\d+(?:\.\d+)?)\s*(b|k|kb|kib|m|mb|mib|g|gb|gib)?\s*")
_MEMORY_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": MIB, "g": GIB}
#: What JSON may say (``"\\ud800"``), and neither UTF-8 nor PostgreSQL can.
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def parse_memory(value: Any) -> Any:
    """Read a size such as ``512m``, ``1.5GiB`` or a number of bytes; units are powers of 1024.

    Raises:
        ValueError: the text is not a size.
    """
    if not isinstance(value, str):
        return value
    match = _MEMORY.fullmatch(value)
    if match is None:
        raise ValueError(f"{value!r} is not a size; write it like 512m or 2GiB")
    number, unit = match.groups()
    size = float(number) * _MEMORY_UNITS[(unit or "").lower()[:1]]
    if not math.isfinite(size):
        raise ValueError("no machine has so much; write it like 512m or 2GiB")
    return int(size)


def parse_queue_name(text: str) -> str:
    """Check the name of a queue.

    Raises:
        ValueError: it is none.
    """
    if not re.fullmatch(QUEUE_NAME.strip("^$"), text):
        raise ValueError("queue names have lower-case letters, digits, dots, dashes and underscores, 100 at most")
    return text


def require_aware(value: datetime) -> datetime:
    """Accept a time with a zone, as UTC.

    Raises:
        ValueError: the time has no zone, so nobody can know which instant it means; or in UTC it is not in the
            years 1 to 9999.
    """
    if value.tzinfo is None:
        raise ValueError("the time has no zone; write it like 2030-01-31T12:00:00Z")
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("the time is not in the years 1 to 9999") from error


def _check_env_names(value: dict[str, str]) -> dict[str, str]:
    for name in value:
        if not _ENV_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name for an environment variable")
    return value


def _check_env(value: dict[str, str]) -> dict[str, str]:
    for name, text in _check_env_names(value).items():
        if "\0" in text:
            raise ValueError(f"the value of {name} contains a NUL character")
        if _HALF_CHARACTER.search(text):
            raise ValueError(f"the value of {name} contains half a character (a lone UTF-16 surrogate)")
    return value


#: A name that is a file's name as well: no slash, no dot in front.
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
Name = Annotated[str, StringConstraints(pattern=NAME)]
#: A user and perhaps a group, by number or by the image's own names for them.
_ACCOUNT = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}"
_USER = rf"^{_ACCOUNT}(:{_ACCOUNT})?$"
ContainerUser = Annotated[str, StringConstraints(pattern=_USER)]
SecretNames = Annotated[dict[str, Name], AfterValidator(_check_env_names)]
#: What can be raised or lowered without harm to others (getrlimit(2)); sizes are bytes, cpu is seconds.
UlimitName = Literal["cpu", "data", "fsize", "memlock", "nofile", "nproc", "stack"]
Ulimits = dict[UlimitName, Annotated[int, Field(ge=1, le=1 << 62)]]
Profile = Literal["strict", "compat"]
Environment = Annotated[dict[str, str], AfterValidator(_check_env)]
AwareDatetime = Annotated[datetime, AfterValidator(require_aware)]
#: The size of a file system in memory; 0 would mean half of the machine's (tmpfs(5)).
TmpfsBytes = Annotated[int, BeforeValidator(parse_memory), Field(ge=1 << 16, le=1024 * GIB)]
MemoryBytes = Annotated[int, BeforeValidator(parse_memory), Field(ge=6 * MIB, le=1024 * GIB)]
QUEUE_NAME = r"^[a-z0-9][a-z0-9._-]{0,99}$"
QueueName = Annotated[str, StringConstraints(pattern=QUEUE_NAME)]
#: What an owner may be called: no slash, no dot in front, since it names a folder of secrets too; addresses are fine.
OWNER_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+-]{0,199}")
_LABEL_KEY = r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$"
LabelKey = Annotated[str, StringConstraints(pattern=_LABEL_KEY)]
_LABEL_VALUE = r"^[^\x00]*$"
LabelValue = Annotated[str, StringConstraints(max_length=255, pattern=_LABEL_VALUE)]


class Frozen(BaseModel):
    """Base of all values: immutable, and unknown fields are errors, not silence."""

    model_config = ConfigDict(frozen=True, extra="forbid")


#: What the patterns mean.
_MEANINGS = {
    NAME: "write letters, digits, dots, dashes and underscores, 100 at most, the first a letter or a digit",
    QUEUE_NAME: "write lower-case letters, digits, dots, dashes and underscores, 100 at most, the first a letter or "
    "a digit",
    _USER: "write a user and perhaps a group, by name or number, like 1000:100",
    _LABEL_KEY: "write letters, digits, dots, dashes, underscores and slashes, 63 at most, the first a letter or a "
    "digit",
    _LABEL_VALUE: "write it without NUL characters",
}
_SHOWN_CHARACTERS = 100


def find_problems(error: ValidationError, model: type[BaseModel]) -> tuple[FieldError, ...]:
    """Say what is wrong with each field of a value that was to be a model's, and how to write it."""
    return tuple(FieldError(_pointer(one["loc"]), _in_words(one, model)) for one in error.errors(include_url=False))


def _pointer(location: tuple[int | str, ...]) -> str:
    # A key of a mapping stands twice in pydantic's location, the second time as "[key]".
    return "#" + "".join(f"/{part}" for part in location if part != "[key]")


def _in_words(finding: ErrorDetails, model: type[BaseModel]) -> str:
    kind, location, given = finding["type"], finding["loc"], repr(finding["input"])[:_SHOWN_CHARACTERS]
    if kind == "extra_forbidden" and len(location) == 1:
        names = list(model.model_fields)
        close = difflib.get_close_matches(str(location[0]), names, 1)
        way_out = f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}"
        return f"there is no such field; {way_out}"
    if kind == "string_pattern_mismatch":
        meaning = _MEANINGS.get(finding["ctx"]["pattern"])
        return finding["msg"] if meaning is None else f"{given} is not allowed; {meaning}"
    if kind.startswith("datetime"):
        return f"{given} is not a time; write it like 2030-01-31T12:00:00Z"
    return finding["msg"].removeprefix("Value error, ")


def in_words(found: tuple[FieldError, ...]) -> str:
    """Put what is wrong with several fields into one sentence."""
    return "; ".join(f"{one.pointer.lstrip('#/')}: {one.detail}".removeprefix(": ") for one in found)
