"""Cursors."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from dccf import errors
from dccf.api import cursors

KEY = (datetime(2030, 1, 31, 12, 0, 0, 123456, tzinfo=UTC), UUID("0198c0de-0000-7000-8000-00000000abcd"))


def test_a_cursor_gives_back_its_key() -> None:
    assert cursors.decode(cursors.encode(KEY)) == KEY


def test_a_cursor_can_stand_in_an_address_as_it_is() -> None:
    assert cursors.encode(KEY).replace("-", "").replace("_", "").isalnum()


@pytest.mark.parametrize("cursor", ["", "x", "ü", "!!!!", "YWJj", cursors.encode(KEY)[:-4]])
def test_what_is_no_cursor_is_refused_with_a_pointer(cursor: str) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        cursors.decode(cursor)

    assert [one.pointer for one in caught.value.errors] == ["#/cursor"]
