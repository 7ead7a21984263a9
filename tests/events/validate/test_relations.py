"""The quick way to the answer is the same answer."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from higgsbench.events.derived import ANALYTIC, agreement, columns_of, derive, rounding_bounds
from higgsbench.events.validate import validate_events
from higgsbench.events.validate.rules import _disagrees
from higgsbench.events.validate.table import RuleTable
from higgsbench.schema import FEATURES

if TYPE_CHECKING:
    from higgsbench.events.derived import FloatArray


@pytest.mark.parametrize("name", ANALYTIC)
def test_shortcuts_agree_with_the_full_bounds(toys: pl.DataFrame, name: str) -> None:
    columns = columns_of(toys, FEATURES)
    bound: FloatArray = rounding_bounds(columns, (name,))[name]
    rng = np.random.default_rng(1)
    # Around the bound on either side, where a wrong shortcut would show.
    moved = derive(columns, (name,))[name] + bound * rng.uniform(0.9, 1.1, len(toys)) * rng.choice([-1, 1], len(toys))
    wrong = ~agreement(columns, {name: moved}, (name,))[name] & ~np.isnan(moved)
    table = RuleTable(toys.with_columns(pl.Series(name, moved, nan_to_null=True)))
    found = _disagrees(name, table)
    assert 0 < wrong.sum() < np.sum(~np.isnan(moved))
    # The shortcuts give away at most the 1e-9 for the binary tail of decimals.
    assert np.sum(found != wrong) == 0


@given(column=st.sampled_from(FEATURES), row=st.integers(0, 39), value=st.one_of(st.none(), st.floats(width=64)))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_content_of_a_cell_makes_it_fail(toys: pl.DataFrame, column: str, row: int, value: float | None) -> None:
    frame = toys.head(40)
    if column == "PRI_jet_num":
        value = None if value is None or not abs(value) < 2**62 else int(value)
    cell = pl.lit(value, dtype=frame.schema[column])
    frame = frame.with_columns(pl.when(pl.int_range(40) == row).then(cell).otherwise(pl.col(column)).alias(column))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = validate_events(frame)
    json.dumps(report.as_dict(), allow_nan=False)
    assert report.violating.sum() <= 1
