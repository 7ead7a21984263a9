"""What is said of a failed unit."""

from __future__ import annotations

import traceback

import pytest

from higgsbench.runs.engines.base import failed_unit
from higgsbench.runs.run import last_line


def failure(error: BaseException) -> str:
    try:
        raise error
    except BaseException:
        return traceback.format_exc()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (failure(ValueError("boom")), "ValueError: boom"),
        (failure(ValueError("boom\nsecond line")), "ValueError: boom"),
        (failure(ValueError("boom: a\n  indented: b\nthird: c")), "ValueError: boom: a"),
        (failure(AssertionError()), "AssertionError"),
        ("attempt 1: gone\n  File stack\nfailed three times: gone", "failed three times: gone"),
        (failed_unit("a", "exceeded the limit", failure(KeyError("x"))).error, "exceeded the limit"),
        ("", "no reason is stored"),
    ],
)
def test_the_sentence_that_matters(text: str, said: str) -> None:
    assert last_line(text) == said
