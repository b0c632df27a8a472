"""Query parameters."""

from __future__ import annotations

import pytest
from flask import Flask

from dccf import errors
from dccf.api import queries
from dccf.models import JobState, Stream


def read(model: type[queries.Query], query: str) -> queries.Query:
    with Flask(__name__).test_request_context(f"/?{query}"):
        return queries.parse(model)


def test_parameters_may_be_repeated_where_that_makes_sense() -> None:
    query = read(queries.ListQuery, "state=queued&state=failed&label=a=1&label=b=x=y&limit=7")

    assert query.state == (JobState.QUEUED, JobState.FAILED)
    assert query.label == {"a": "1", "b": "x=y"}
    assert query.limit == 7
    assert read(queries.LogQuery, "stream=stdout&stream=stderr").stream == (Stream.STDOUT, Stream.STDERR)


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("30", 30), ("0.5s", 0.5), ("9999s", 60)])
def test_a_wait_is_a_number_of_seconds_up_to_the_longest(text: str, seconds: float) -> None:
    assert read(queries.GetQuery, f"wait={text}").wait == seconds


@pytest.mark.parametrize(("text", "flag"), [("1", True), ("true", True), ("0", False), ("", False)])
def test_a_flag_is_written_in_the_usual_ways(text: str, flag: bool) -> None:
    assert read(queries.LogQuery, f"follow={text}").follow is flag


@pytest.mark.parametrize("query", ["wait=soon", "wait=-1", "wait=1m", "wait=1e3", "w=1"])
def test_anything_else_is_refused(query: str) -> None:
    with pytest.raises(errors.InvalidRequest):
        read(queries.GetQuery, query)
