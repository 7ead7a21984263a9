from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from higgsbench.events.derived import derive
from higgsbench.features import evaluate, resolve_features
from higgsbench.schema import ATLAS_HIGGS, FEATURES, STRUCTURALLY_MISSING


@pytest.fixture
def two_jets() -> pl.DataFrame:
    return random_events(3, 50).filter(pl.col("PRI_jet_num") == 2).head(1)


def changed(name: str, event: pl.DataFrame, **changes: float | None) -> dict[str, float | None]:
    """Features of a set for one event with other values in some columns."""
    event = event.with_columns(pl.lit(value, pl.Float64).alias(column) for column, value in changes.items())
    return evaluate(event, resolve_features(ATLAS_HIGGS, name=name).expressions).row(0, named=True)


def random_events(seed: int, n: int) -> pl.DataFrame:
    """Unrounded events, so that symmetries hold to float64."""
    rng = np.random.default_rng(seed)
    columns = {"PRI_jet_num": rng.integers(0, 4, n).astype(float)}
    for prefix, floor in (("tau", 20), ("lep", 26), ("jet_leading", 30), ("jet_subleading", 30)):
        columns[f"PRI_{prefix}_pt"] = floor + rng.gamma(1.0, 30.0, n)
        columns[f"PRI_{prefix}_eta"] = rng.uniform(-2.5, 2.5, n)
        columns[f"PRI_{prefix}_phi"] = rng.uniform(-np.pi, np.pi, n)
    columns["PRI_met"], columns["PRI_met_phi"] = rng.gamma(1.0, 40.0, n), rng.uniform(-np.pi, np.pi, n)
    columns["PRI_met_sumet"] = 100 + rng.gamma(2.0, 80.0, n)
    for number, names in STRUCTURALLY_MISSING.items():
        for name in set(names) & set(columns):
            columns[name][columns["PRI_jet_num"] == number] = np.nan
    columns["PRI_jet_all_pt"] = np.nan_to_num(columns["PRI_jet_leading_pt"]) + np.nan_to_num(
        columns["PRI_jet_subleading_pt"]
    )
    columns |= derive(columns)
    columns["DER_mass_MMC"] = np.where(rng.random(n) < 0.15, np.nan, rng.gamma(9.0, 12.0, n))
    frame = pl.DataFrame({name: columns[name] for name in FEATURES}).fill_nan(None)
    return frame.with_columns(pl.col("PRI_jet_num").cast(pl.Int64))
