"""Feature choices: named sets, columns, and what can never be a feature."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from higgsbench.errors import ConfigError
from higgsbench.features import feature_matrix, feature_sets, resolve_features
from higgsbench.schema import ATLAS_HIGGS, FEATURES


def test_raw_is_what_the_file_has() -> None:
    features = resolve_features(ATLAS_HIGGS)
    assert features.columns == FEATURES
    assert features.name == "raw"


@pytest.mark.parametrize(
    ("choice", "columns", "name"),
    [
        ({"columns": ["PRI_met", "PRI_tau_pt"]}, ("PRI_met", "PRI_tau_pt"), "2 columns"),
        ({"columns": ["PRI_met"], "add": ["PRI_tau_pt"]}, ("PRI_met", "PRI_tau_pt"), "2 columns"),
        ({"columns": ["PRI_met"], "add": ["PRI_met"]}, ("PRI_met",), "1 columns"),
        ({"drop": list(FEATURES[1:])}, FEATURES[:1], "raw -29"),
    ],
)
def test_choices(choice: dict[str, Any], columns: tuple[str, ...], name: str) -> None:
    features = resolve_features(ATLAS_HIGGS, **choice)
    assert features.columns == columns
    assert features.name == name


@pytest.mark.parametrize("column", ATLAS_HIGGS.not_features)
@pytest.mark.parametrize("key", ["columns", "add"])
def test_what_gives_the_answer_away_is_refused(column: str, key: str) -> None:
    with pytest.raises(ConfigError, match=f"{column} can never be a feature"):
        resolve_features(ATLAS_HIGGS, **{key: [column]})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [s.name for s in feature_sets()])
def test_no_set_gives_the_answer_away(name: str) -> None:
    for expression in resolve_features(ATLAS_HIGGS, name=name).expressions:
        assert not set(expression.meta.root_names()) & set(ATLAS_HIGGS.not_features)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"name": "rwa"}, r"no set named 'rwa' \(did you mean 'raw'\?\)"),
        ({"columns": ["PRI_mett"]}, r"no column named 'PRI_mett' \(did you mean 'PRI_met'\?\)"),
        ({"columns": ["PRI_met", "PRI_met"]}, "'PRI_met' is named twice"),
        ({"drop": ["PRI_mett"]}, r"cannot drop 'PRI_mett', which is not in the set \(did you mean 'PRI_met'\?\)"),
        ({"drop": list(FEATURES)}, "no feature is left"),
        ({"columns": []}, "no feature is left"),
    ],
)
def test_refused(choice: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_features(ATLAS_HIGGS, **choice)


def test_matrix_has_nan_where_a_value_is_missing() -> None:
    frame = pl.DataFrame({"PRI_met": [1.5, None], "PRI_jet_num": [0, 3]})
    X = feature_matrix(frame, resolve_features(ATLAS_HIGGS, columns=["PRI_jet_num", "PRI_met"]))
    assert X.dtype == np.float32
    assert X.flags.c_contiguous
    np.testing.assert_array_equal(X, [[0.0, 1.5], [3.0, np.nan]])


def test_digest_names_columns_and_order() -> None:
    a, b, c = (
        resolve_features(ATLAS_HIGGS, columns=list(c)).digest for c in (FEATURES[:2], FEATURES[1::-1], FEATURES[:3])
    )
    assert len({a, b, c}) == 3
    assert a == resolve_features(ATLAS_HIGGS, drop=list(FEATURES[2:])).digest
