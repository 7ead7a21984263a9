"""Feature choices: named sets, columns, and what can never be a feature."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import polars as pl
import pytest

from higgsbench.errors import ConfigError
from higgsbench.features import feature_matrix, feature_sets, resolve_features, steps_and_columns
from higgsbench.features.builtin import STEPS
from higgsbench.files import canonical_digest
from higgsbench.schema import ATLAS_HIGGS, FEATURES, UCI_HIGGS

RAW_DIGEST = canonical_digest([[name, str(pl.col(name))] for name in FEATURES])


def test_raw_is_what_the_file_has_and_keeps_its_identity() -> None:
    features = resolve_features(ATLAS_HIGGS)
    assert features.digest == RAW_DIGEST  # stored fits on the raw columns stay valid
    assert features.columns == FEATURES
    assert features.name == "raw"


@pytest.mark.parametrize(
    ("choice", "columns", "name"),
    [
        ({"columns": ["PRI_met", "PRI_tau_pt"]}, ("PRI_met", "PRI_tau_pt"), "2 columns"),
        ({"columns": ["PRI_met"], "add": ["PRI_tau_pt"]}, ("PRI_met", "PRI_tau_pt"), "2 columns"),
        ({"columns": ["PRI_met"], "add": ["PRI_met"]}, ("PRI_met",), "1 columns"),
        ({"drop": list(FEATURES[1:])}, FEATURES[:1], "raw -29"),
        ({"columns": ["pzeta", "met_lx", "PRI_met"]}, ("pzeta", "met_lx", "PRI_met"), "3 columns"),
        ({"add": ["pzeta", ("twice", "2 * PRI_met")]}, (*FEATURES, "pzeta", "twice"), "raw +2"),
    ],
)
def test_choices(choice: dict[str, Any], columns: tuple[str, ...], name: str) -> None:
    features = resolve_features(ATLAS_HIGGS, **choice)
    assert features.columns == columns
    assert features.name == name


@pytest.mark.parametrize("column", ATLAS_HIGGS.not_features)
@pytest.mark.parametrize("key", ["columns", "add"])
def test_what_gives_the_answer_away_is_refused(column: str, key: str) -> None:
    chosen: dict[str, Any] = {key: [column]}
    with pytest.raises(ConfigError, match=f"{column} cannot be a feature"):
        resolve_features(ATLAS_HIGGS, **chosen)


@pytest.mark.parametrize("name", [s.name for s in feature_sets()])
def test_no_set_gives_the_answer_away(name: str) -> None:
    _, columns = steps_and_columns(resolve_features(ATLAS_HIGGS, name=name).expressions)
    assert columns
    assert set(columns) <= set(FEATURES)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"name": "rwa"}, r"no feature set named 'rwa' \(did you mean 'raw'\?\)"),
        ({"columns": ["PRI_mett"]}, r"no column named 'PRI_mett' \(did you mean 'PRI_met'\?\)"),
        ({"columns": ["PRI_met", "PRI_met"]}, "'PRI_met' is named twice"),
        ({"drop": ["PRI_mett"]}, r"cannot drop 'PRI_mett', which is not in the set \(did you mean 'PRI_met'\?\)"),
        ({"drop": list(FEATURES)}, "no feature is left"),
        ({"columns": []}, "no feature is left"),
        ({"columns": ["pzetta"]}, r"no column named 'pzetta' \(did you mean 'pzeta'\?\), in the layout or any set"),
        ({"add": ["pzeta", "pzeta"]}, "'pzeta' is named twice"),
        ({"add": [("pzeta", "PRI_met"), "pzeta"]}, "'pzeta' is named twice"),
        ({"name": "physics", "add": [("pzeta", "PRI_met * 2")]}, "'pzeta' is named twice"),
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
    choices = (FEATURES[:2], FEATURES[1::-1], FEATURES[:3])
    a, b, c = (resolve_features(ATLAS_HIGGS, columns=list(columns)).digest for columns in choices)
    assert len({a, b, c}) == 3
    assert a == resolve_features(ATLAS_HIGGS, drop=list(FEATURES[2:])).digest


@pytest.mark.parametrize("name", ["canonical", "physics", "momenta"])
def test_the_columns_that_a_layout_lacks_are_named(name: str) -> None:
    lacks = rf"set '{name}' needs columns that the layout uci-higgs lacks: .*PRI_tau_eta"
    with pytest.raises(ConfigError, match=lacks):
        resolve_features(UCI_HIGGS, name=name)
    smaller = dataclasses.replace(ATLAS_HIGGS, name="mine", features=tuple(f for f in FEATURES if f != "PRI_met_phi"))
    with pytest.raises(ConfigError, match=r"the layout mine lacks: PRI_met_phi$"):
        resolve_features(smaller, name=name)


def test_more_columns_than_the_challenge_has_stay_in() -> None:
    larger = dataclasses.replace(ATLAS_HIGGS, features=(*FEATURES, "b_tag"))
    assert "b_tag" in resolve_features(larger, name="physics").columns


def test_the_digest_follows_the_canonical_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = ["met_phi_can"]
    before = resolve_features(ATLAS_HIGGS, columns=columns).digest
    assert before == resolve_features(ATLAS_HIGGS, columns=columns).digest
    changed = [dict(step) for step in STEPS]
    changed[0]["~upward"] = pl.lit(1.0) * pl.col("PRI_met_phi")
    monkeypatch.setattr("higgsbench.features.STEPS", tuple(changed))
    assert resolve_features(ATLAS_HIGGS, columns=columns).digest != before
    assert resolve_features(ATLAS_HIGGS).digest == RAW_DIGEST
