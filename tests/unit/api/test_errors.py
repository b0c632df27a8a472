"""How errors become problems."""

from __future__ import annotations

import pytest

from dccf import errors
from dccf.api import errors as problems
from dccf.client.http import ERRORS_BY_CODE
from dccf.errors import DccfError


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.InvalidRequest("x"), 422, "invalid_request"),
        (errors.IdempotencyMismatch("x"), 422, "idempotency_mismatch"),
        (errors.NotFound("x"), 404, "not_found"),
        (errors.StoreUnavailable("x"), 503, "store_unavailable"),
        (errors.ConfigError("x"), 500, "internal_error"),
    ],
)
def test_the_most_special_class_decides(error: DccfError, status: int, code: str) -> None:
    assert problems.kind_of(error)[:2] == (status, code)


def test_the_client_turns_every_code_back_into_the_error_it_was() -> None:
    served = {kind.code: cls for cls, kind in problems.KINDS.items() if cls is not problems.TooBusy}

    assert served == ERRORS_BY_CODE
