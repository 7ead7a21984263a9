"""Events in memory and the digest of their content."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from higgsbench import ATLAS_HIGGS, Events, TableSchema
from higgsbench.errors import DataError
from higgsbench.events import content_digest
from higgsbench.schema import N_B, N_S, SIMULATED_FROM

SCHEMA = TableSchema("mine", ("x",), "label", weight="w", group="jets", subset="set", subset_weight="sw")
FRAME = pl.DataFrame(
    {"x": [1.0, None, 3.0], "label": ["s", "b", "b"], "w": [1.0, 2.0, 3.0], "jets": [0, 1, 2], "set": ["t", "t", "v"]}
)


def test_digest_knows_only_content() -> None:
    digest = content_digest(FRAME)
    assert digest == content_digest(FRAME.select(FRAME.columns[::-1]))
    assert digest == content_digest(pl.concat([FRAME[:1], FRAME[1:]], rechunk=False))
    assert digest == content_digest(FRAME.with_columns(pl.col("x") + 0.0))


@pytest.mark.parametrize(
    "other",
    [
        FRAME[::-1],
        FRAME[:2],
        FRAME.rename({"x": "y"}),
        FRAME.with_columns(pl.col("x").fill_null(0.0)),
        FRAME.with_columns(pl.col("x").cast(pl.Float32)),
        FRAME.with_columns(x=pl.Series([1.0, 3.0, None])),
        FRAME.with_columns(label=pl.Series(["s", "bb", ""])),
        FRAME.with_columns(label=pl.Series(["s", "b", None])),
        FRAME.with_columns(pl.col("w").cast(pl.Int64)),
    ],
    ids=["order", "fewer", "name", "null is not 0", "type", "which is null", "shifted text", "null text", "whole"],
)
def test_digest_knows_all_content(other: pl.DataFrame) -> None:
    assert content_digest(other) != content_digest(FRAME)


def test_weight_of_the_subset_counts_within_one_subset() -> None:
    events = Events(FRAME, SCHEMA, "here")
    np.testing.assert_array_equal(events.weight, [1.0, 2.0, 3.0])
    events = Events(FRAME.with_columns(sw=pl.Series([7.0, 8.0, 9.0])), SCHEMA, "here")
    np.testing.assert_array_equal(events.weight, [1.0, 2.0, 3.0])
    np.testing.assert_array_equal(events.take(np.array([0, 1])).weight, [7.0, 8.0])
    only = Events(FRAME.drop("w").with_columns(sw=pl.Series([7.0, 8.0, 9.0])), SCHEMA, "here")
    np.testing.assert_array_equal(only.weight, [7.0, 8.0, 9.0])


def test_take_is_data_of_its_own() -> None:
    events = Events(FRAME, SCHEMA, "here")
    part = events.take(np.array([True, False, True]))
    assert (len(part), part.source) == (2, "here")
    assert part.digest == events.take(np.array([0, 2])).digest != events.digest


def test_simulated_events_are_known_by_their_numbers() -> None:
    frame = pl.DataFrame({"EventId": [SIMULATED_FROM - 1, SIMULATED_FROM]})
    assert Events(frame, ATLAS_HIGGS, "here").simulated
    assert not Events(frame[:1], ATLAS_HIGGS, "here").simulated


def test_totals_are_the_challenge_s_or_the_data_s_own() -> None:
    assert Events(FRAME, SCHEMA, "here").totals() == (1.0, 5.0)
    assert Events(FRAME, ATLAS_HIGGS, "here").totals() == (N_S, N_B)


def test_subsets_need_their_column() -> None:
    events = Events(FRAME, SCHEMA, "here")
    np.testing.assert_array_equal(events.in_subsets(["v"]), [False, False, True])
    with pytest.raises(DataError, match="here: no column set, so no subsets"):
        Events(FRAME.drop("set"), SCHEMA, "here").in_subsets(["t"])


def test_bookkeeping_is_no_feature() -> None:
    assert ATLAS_HIGGS.not_features == ("Weight", "KaggleWeight", "KaggleSet", "Label", "EventId")
    assert not set(ATLAS_HIGGS.not_features) & set(ATLAS_HIGGS.features)
    assert len(ATLAS_HIGGS.features) == 30
