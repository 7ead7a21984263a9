"""Panics of Polars end as errors that readers turn into one line."""

from __future__ import annotations

import polars as pl
import pytest

from higgsbench.files import no_panic


def test_a_panic_is_an_error() -> None:
    with pytest.raises(pl.exceptions.ComputeError, match="gave up"), no_panic():
        raise pl.exceptions.PanicException("assertion failed")


def test_other_errors_and_results_pass() -> None:
    with pytest.raises(ValueError, match="other"), no_panic():
        raise ValueError("other")
    with no_panic():
        assert pl.DataFrame({"a": [1]}).height == 1
