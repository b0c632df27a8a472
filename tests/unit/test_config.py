"""Settings: what is read, what wins, what is refused and in which words; the document lists the same."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from dccf import config, config_values
from dccf.config import OTHER_VARIABLES, PREFIX, Settings
from dccf.errors import ConfigError
from dccf.fields import GIB, MIB, parse_memory

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"
NEEDED = {"DCCF_DATABASE_URL": "postgresql://u:hunter2@db:5432/dccf", "DCCF_BROKER_URL": "memory://"}
#: Defaults that are worked out on the machine, and how the document says it.
WORKED_OUT = {
    "state_folder": "`/var/lib/dccf` for root, else `~/.local/state/dccf`",
    "worker_name": "the machine's host name",
    "worker_slots": "the number of cores",
}


def write_size(number: int) -> str:
    """Write a size as people would."""
    for unit, size in (("g", GIB), ("m", MIB)):
        if number and number % size == 0:
            return f"{number // size}{unit}"
    return str(number)


def render_default(field: str, info: FieldInfo) -> str:
    """Write a default as the document does: as the text that would set it."""
    if field in WORKED_OUT:
        return WORKED_OUT[field]
    if info.is_required():
        return "needed"
    default: Any = info.get_default()
    is_size = any(getattr(extra, "func", None) is parse_memory for extra in info.metadata)
    match default:
        case None:
            return "not set"
        case SecretStr():
            return f"`{default.get_secret_value()}`" if default.get_secret_value() else "empty"
        case bool():
            return f"`{str(default).lower()}`"
        case tuple():
            return f"`{','.join(default)}`" if default else "none"
        case dict():
            return f"`{','.join(f'{name}={value}' for name, value in default.items())}`"
        case int() if is_size:
            return f"`{write_size(default)}`"
        case _:
            return f"`{default}`"


def row_of(field: str) -> str:
    """Write the line of the document for a setting."""
    info = Settings.model_fields[field]
    return f"| `{config.variable_of(field)}` | {render_default(field, info)} | {info.description} |"


def write(folder: Path, text: str) -> Path:
    """Write a settings file."""
    file = folder / "dccf.toml"
    file.write_text(text)
    return file


def load(tmp_path: Path, text: str = "", **environ: str) -> Settings:
    """Load settings from a file with this text and an environment with what is needed and this."""
    return config.load({**NEEDED, "DCCF_CONFIG": str(write(tmp_path, text)), **environ})


def refusal(**environ: str) -> str:
    """Give the words in which an environment is refused."""
    with pytest.raises(ConfigError) as caught:
        config.load({**NEEDED, **environ})
    return str(caught.value)


# -- the document -----------------------------------------------------------------------------------


def test_the_document_lists_every_setting_with_its_default_and_meaning_in_the_order_of_the_class() -> None:
    rows = [line for line in DOCUMENT.read_text().splitlines() if line.startswith(f"| `{PREFIX}")]

    assert [row_of(field) for field in Settings.model_fields] == [row for row in rows if row.count(" | ") == 2]


def test_the_document_lists_the_variables_that_are_no_settings() -> None:
    rows = [line for line in DOCUMENT.read_text().splitlines() if line.startswith(f"| `{PREFIX}")]
    named = [match[1] for row in rows if row.count(" | ") == 1 and (match := re.match(r"\| `(\w+)`", row))]

    assert sorted(OTHER_VARIABLES) == sorted(named)


def test_the_example_of_the_document_is_a_file_that_loads(tmp_path: Path) -> None:
    example = re.search(r"```toml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert example is not None

    settings = config.load({"DCCF_CONFIG": str(write(tmp_path, example[1]))})

    assert (settings.max_upload_bytes, settings.worker_queues) == (8 * GIB, ("default", "slow"))


# -- what is read, and what wins --------------------------------------------------------------------


def test_the_two_settings_without_a_default_are_enough() -> None:
    settings = config.load(NEEDED)

    assert (settings.broker_url, settings.max_attempts) == ("memory://", 3)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_a_postgresql_url_names_psycopg2_whatever_way_it_was_written(scheme: str) -> None:
    settings = config.load({**NEEDED, "DCCF_DATABASE_URL": f"{scheme}://u@h/d"})

    assert settings.database_url == "postgresql+psycopg2://u@h/d"


def test_the_file_is_read(tmp_path: Path) -> None:
    settings = load(tmp_path, 'max_attempts = 7\nworker_queues = ["gpu", "slow"]\noutput_limit_bytes = "64m"\n')

    assert (
        settings.max_attempts,
        settings.worker_queues,
        settings.output_limit_bytes,
    ) == (7, ("gpu", "slow"), 64 * MIB)


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    settings = load(tmp_path, "max_attempts = 7\nworker_slots = 3\n", DCCF_MAX_ATTEMPTS="8")

    assert (settings.max_attempts, settings.worker_slots) == (8, 3)


def test_a_list_is_written_with_commas_in_the_environment() -> None:
    settings = config.load({**NEEDED, "DCCF_ALLOWED_IMAGES": "docker.io/library/*, ghcr.io/us/*,"})

    assert settings.allowed_images == ("docker.io/library/*", "ghcr.io/us/*")


def test_what_no_setting_can_know_is_worked_out_on_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    settings = config.load(NEEDED)

    assert (socket.gethostname(), 1) == (settings.worker_name, settings.worker_slots)


@pytest.mark.parametrize(
    ("user", "state_home", "expected"),
    [(0, "/s", "/var/lib/dccf"), (1000, "/s", "/s/dccf"), (1000, None, "/h/.local/state/dccf")],
)
def test_the_state_lies_in_the_system_for_root_and_at_home_for_others(
    monkeypatch: pytest.MonkeyPatch, user: int, state_home: str | None, expected: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setenv("HOME", "/h")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    if state_home:
        monkeypatch.setenv("XDG_STATE_HOME", state_home)

    assert Path(expected) == config_values.default_state_folder()


def test_settings_cannot_be_changed_after_they_were_read() -> None:
    settings = config.load(NEEDED)

    with pytest.raises(ValueError, match="frozen"):
        settings.max_attempts = 4  # type: ignore[misc]


@pytest.mark.parametrize("name", sorted(OTHER_VARIABLES - {config.CONFIG_VARIABLE}))
def test_variables_that_others_read_are_no_unknown_settings(name: str) -> None:
    assert config.load({**NEEDED, name: "x"}) == config.load(NEEDED)


# -- what is refused, and how -----------------------------------------------------------------------


def test_an_unknown_variable_is_refused_by_its_name() -> None:
    expected = (
        "DCCF_WORKER_SLOT: there is no such setting. Did you mean DCCF_WORKER_SLOTS? "
        "docs/configuration.md lists them all."
    )
    assert expected == refusal(DCCF_WORKER_SLOT="2")


def test_an_unknown_key_of_the_file_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^worker_slot \(in DCCF_CONFIG\): there is no such setting"):
        load(tmp_path, "worker_slot = 2\n")


def test_a_missing_setting_says_what_it_is_for() -> None:
    with pytest.raises(ConfigError) as caught:
        config.load({})

    assert [line.partition(":")[0] for line in str(caught.value).splitlines()] == [
        "DCCF_DATABASE_URL is not set. It is needed",
        "DCCF_BROKER_URL is not set. It is needed",
    ]


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("DCCF_API_PORT", "80800", "less than or equal to 65535"),
        ("DCCF_API_THREADS", "many", "valid integer"),
        ("DCCF_AUTH", "off", "'token' or 'none'"),
        ("DCCF_WORKER_NAME", "a b", "should match pattern"),
        ("DCCF_WORKER_QUEUES", "ok,Not ok", "should match pattern"),
        ("DCCF_OUTPUT_LIMIT_BYTES", "lots", "write it like 512m or 2GiB"),
        ("DCCF_IMAGE_LIMIT_BYTES", "5m", f"greater than or equal to {6 * MIB}"),
        ("DCCF_ALLOW_BRIDGE", "maybe", "valid boolean"),
        ("DCCF_LEASE_SECONDS", "1", "greater than or equal to 3"),
    ],
)
def test_a_bad_value_names_the_variable_the_value_and_what_is_allowed(name: str, value: str, allowed: str) -> None:
    words = refusal(**{name: value})

    assert words.startswith(f"{name}='{value.rsplit(',', maxsplit=1)[-1]}' is not allowed: ")
    assert allowed in words
    assert str(Settings.model_fields[name.removeprefix(PREFIX).lower()].description) in words


def test_a_bad_value_of_the_file_says_that_it_stands_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^max_attempts \(in DCCF_CONFIG\)=0 is not allowed"):
        load(tmp_path, "max_attempts = 0\n")


def test_every_bad_value_gets_a_line_of_its_own() -> None:
    assert len(refusal(DCCF_API_PORT="x", DCCF_MAX_ATTEMPTS="y").splitlines()) == 2


@pytest.mark.parametrize("content", [None, b"not toml", b"\xff"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "dccf.toml"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(ConfigError, match=f"^DCCF_CONFIG={re.escape(str(file))}: the file cannot be read"):
        config.load({**NEEDED, "DCCF_CONFIG": str(file)})


# -- secrets ----------------------------------------------------------------------------------------


def test_a_bad_url_does_not_show_its_password() -> None:
    words = refusal(DCCF_DATABASE_URL="mysql://u:hunter2@db/dccf")

    assert words.startswith("DCCF_DATABASE_URL=(hidden) is not allowed: ")
    assert "it must start with postgresql://" in words
    assert "hunter2" not in words


@pytest.mark.parametrize("field", ["database_url", "broker_url", "bootstrap_token", "token_pepper"])
def test_no_error_shows_a_value_that_may_be_secret(tmp_path: Path, field: str) -> None:
    environ = {name: value for name, value in NEEDED.items() if name != config.variable_of(field)}
    environ["DCCF_CONFIG"] = str(write(tmp_path, f'{field} = ["hunter2"]\n'))

    with pytest.raises(ConfigError) as caught:
        config.load(environ)

    assert str(caught.value).startswith(f"{field} (in DCCF_CONFIG)=(hidden) is not allowed: ")
    assert "hunter2" not in str(caught.value)


def test_settings_do_not_print_their_secrets() -> None:
    settings = config.load({**NEEDED, "DCCF_BOOTSTRAP_TOKEN": "hunter3", "DCCF_TOKEN_PEPPER": "hunter4"})

    assert [secret for secret in ("hunter3", "hunter4") if secret in repr(settings)] == []


# -- what no single field can say -------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_authentication_may_be_off_on_loopback(host: str) -> None:
    assert config.load({**NEEDED, "DCCF_AUTH": "none", "DCCF_API_HOST": host}).auth == "none"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "example.org"])
def test_authentication_may_not_be_off_on_any_other_address(host: str) -> None:
    assert refusal(DCCF_AUTH="none", DCCF_API_HOST=host).startswith(f"DCCF_AUTH=none with DCCF_API_HOST={host}: ")


def test_a_lease_may_be_renewed_every_third_of_it() -> None:
    settings = config.load({**NEEDED, "DCCF_LEASE_SECONDS": "6", "DCCF_LEASE_RENEW_SECONDS": "2"})

    assert (settings.lease_seconds, settings.lease_renew_seconds) == (6.0, 2.0)


def test_a_lease_may_not_be_renewed_more_rarely() -> None:
    words = refusal(DCCF_LEASE_SECONDS="6", DCCF_LEASE_RENEW_SECONDS="2.1")

    assert words.startswith("DCCF_LEASE_RENEW_SECONDS=2.1 is not allowed: it must be at most a third of ")


def test_the_file_broker_needs_a_folder(tmp_path: Path) -> None:
    words = refusal(DCCF_BROKER_URL="filesystem://localhost")
    settings = load(tmp_path, DCCF_BROKER_URL="filesystem://localhost", DCCF_BROKER_FOLDER=str(tmp_path))

    assert words == "DCCF_BROKER_FOLDER is not set. The file broker (filesystem://) needs it."
    assert tmp_path == settings.broker_folder


def test_what_is_needed_is_taken_from_a_running_stack_when_asked(tmp_path: Path) -> None:
    environ = {"DCCF_STATE_FOLDER": str(tmp_path)}
    (tmp_path / config.UP_ENVIRONMENT).write_text("DCCF_DATABASE_URL=x\n")
    with pytest.raises(ConfigError, match=re.escape(f"set -a; . {tmp_path}/env; set +a")):
        config.load(environ)
    (tmp_path / config.UP_ENVIRONMENT).unlink()
    with pytest.raises(ConfigError) as caught:
        config.load(environ)
    assert "dccf up" not in str(caught.value)
