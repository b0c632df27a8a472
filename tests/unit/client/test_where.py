"""Where the API is, and who gets to see the token."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dccf import config_values, errors
from dccf.client import where

ENV = {"DCCF_API_URL": "http://env", "DCCF_TOKEN": "env-token"}


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    return {"XDG_CONFIG_HOME": str(tmp_path / "config"), "DCCF_STATE_FOLDER": str(tmp_path / "state")}


def write_config(home: dict[str, str], text: str) -> None:
    folder = Path(home["XDG_CONFIG_HOME"]) / "dccf"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(text)


def write_running(home: dict[str, str], url: str = "http://up") -> None:
    folder = Path(home["DCCF_STATE_FOLDER"])
    folder.mkdir()
    (folder / "client.json").write_text(json.dumps({"url": url, "token": "up-token"}))


def found(home: dict[str, str], url: str | None = None, token: str | None = None) -> tuple[str, str | None]:
    one = where.find(url, token, home)
    return one.url, one.token


def test_each_source_comes_before_the_next(home: dict[str, str]) -> None:
    assert found(home) == ("http://127.0.0.1:8080", None)
    write_running(home)
    assert found(home) == ("http://up", "up-token")
    write_config(home, 'url = "http://config/"\ntoken = "config-token"\n')
    assert found(home) == ("http://config", "config-token")
    assert found(home | ENV) == ("http://env", "env-token")
    assert found(home | ENV, "http://arg", "arg-token") == ("http://arg", "arg-token")


def test_a_token_of_a_file_goes_only_where_the_file_says(home: dict[str, str]) -> None:
    write_config(home, 'url = "http://config"\ntoken = "config-token"\n')

    assert found(home, "http://elsewhere") == ("http://elsewhere", None)
    assert found(home, "http://config/") == ("http://config", "config-token")


def test_a_token_is_not_shown_where_a_place_is_printed(home: dict[str, str]) -> None:
    assert "secret" not in repr(where.find("http://arg", "secret", home))


@pytest.mark.parametrize("text", ["url = ", "\xff"])
def test_a_file_that_cannot_be_read_is_named(home: dict[str, str], text: str) -> None:
    write_config(home, text)

    with pytest.raises(errors.ConfigError, match=r"config\.toml cannot be read"):
        where.find(environ=home)


def test_the_state_folder_is_the_one_that_the_stack_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)

    assert where._state_folder({}) == config_values.default_state_folder()
