"""Feature sets of users and of installed packages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import polars as pl
import pytest

from higgsbench import features
from higgsbench.errors import ConfigError
from higgsbench.features import (
    FeatureSet,
    Quantity,
    feature_matrix,
    feature_set,
    feature_sets,
    register_features,
    resolve_features,
)
from higgsbench.features.builtin import LEP, MET
from higgsbench.features.quantity import abs_delta_phi
from higgsbench.schema import ATLAS_HIGGS, UCI_HIGGS, TableSchema
from tests.features.conftest import random_events

Make = Callable[..., FeatureSet]


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    feature_sets()
    monkeypatch.setattr(features._SETS, "_records", dict(features._SETS._records))


def register(*expressions: pl.Expr | Quantity) -> FeatureSet:
    return register_features("mine", lambda schema: list(expressions), description="of a test")


def test_a_registered_set_is_used_like_any_other() -> None:
    own = abs_delta_phi(LEP, MET)
    made = register((pl.col("PRI_met") / pl.col("PRI_met_sumet")).alias("share"), own.alias("own"))
    assert feature_set("mine") is made
    assert [s.name for s in feature_sets()][-1] == "mine"
    X = feature_matrix(random_events(0, 20), resolve_features(ATLAS_HIGGS, name="mine", add=["PRI_met"]))
    assert X.shape == (20, 3)
    theirs = feature_matrix(
        random_events(0, 20), resolve_features(ATLAS_HIGGS, columns=["dr_lep_jet1", "share", "own"])
    )
    assert (theirs[:, 1:] == X[:, :2]).all()


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (pl.col("PRI_met").mean().alias("f"), "looks at other events"),
        ((pl.col("PRI_met") - pl.col("PRI_met").mean()).alias("f"), "looks at other events"),
        (pl.col("PRI_met").rank().alias("f"), "looks at other events"),
        (pl.col("PRI_met").shift(1).alias("f"), "looks at other events"),
        (pl.col("PRI_met").mean().over("PRI_jet_num").alias("f"), "looks at other events"),
        (pl.col("PRI_met").drop_nulls().alias("f"), "looks at other events"),
        (pl.col("PRI_met").str.to_lowercase().alias("f"), "cannot be evaluated"),
        (pl.col("PRI_met").map_elements(lambda x: x, return_dtype=pl.Float64).alias("f"), "calls Python"),
        ((pl.col("PRI_met") * pl.col("Weight")).alias("f"), "uses Weight, which cannot be a feature"),
        (pl.col("PRI_mett").alias("f"), "the layout atlas-higgs-2014 lacks: PRI_mett"),
        ("PRI_met", "has a str where a Polars expression"),
        ([pl.col("PRI_met"), pl.col("PRI_tau_pt").alias("PRI_met")], "two features named 'PRI_met'"),
    ],
)
def test_refused(expression: pl.Expr | list[pl.Expr], message: str) -> None:
    register(*(expression if isinstance(expression, list) else [expression]))
    with pytest.raises(ConfigError, match=message):
        resolve_features(ATLAS_HIGGS, name="mine")


def test_a_name_is_taken_once_unless_replaced() -> None:
    with pytest.raises(ConfigError, match="'raw' is already registered; pass replace=True"):
        register_features("raw", lambda schema: [])
    assert register_features("raw", lambda schema: [], replace=True) is feature_set("raw")


def test_a_set_that_fails_is_one_line_and_hides_no_other() -> None:
    def fails(schema: TableSchema) -> list[pl.Expr]:
        raise KeyError(schema.name)

    register_features("mine", fails)
    with pytest.raises(ConfigError, match="set 'mine' fails for the layout uci-higgs: KeyError"):
        resolve_features(UCI_HIGGS, name="mine")
    assert resolve_features(ATLAS_HIGGS, columns=["pzeta"]).columns == ("pzeta",)


def test_the_digest_covers_long_literals() -> None:
    """Polars prints long lists with an ellipsis."""
    digests = set()
    for middle in (50, 51):
        members = [float(x) for x in (*range(40), middle, *range(60, 99))]
        one_of = [pl.col("PRI_met").is_in(members).alias("f")]
        register_features("mine", partial(lambda found, schema: found, one_of), replace=True)
        digests.add(resolve_features(ATLAS_HIGGS, name="mine").digest)
    assert len(digests) == 2


def test_a_package_offers_a_set(monkeypatch: pytest.MonkeyPatch) -> None:
    guest = FeatureSet("guest", "of a package", lambda schema: [pl.col("PRI_met").sqrt().alias("root_met")])

    def offered() -> Iterator[FeatureSet]:
        yield guest

    monkeypatch.setattr(features._SETS, "_records", {})
    monkeypatch.setattr(features._SETS, "_loaded", False)
    monkeypatch.setattr(features._SETS, "_offered", offered)
    assert features._SETS.group == "higgsbench.features"
    assert [s.name for s in feature_sets()] == ["raw", "canonical", "physics", "momenta", "guest"]
    assert resolve_features(ATLAS_HIGGS, columns=["root_met"]).columns == ("root_met",)
