"""The canonical frame: what it removes, and what happens on its boundaries."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from higgsbench.features import Features, evaluate, feature_matrix, feature_set, resolve_features
from higgsbench.schema import ATLAS_HIGGS, FEATURES
from tests.features.conftest import changed, random_events

SETS = ("canonical", "physics", "momenta")
PHIS = [name for name in FEATURES if name.endswith("_phi")]
ETAS = [name for name in FEATURES if name.endswith("_eta")]


def moved(frame: pl.DataFrame, angle: float, flip_z: bool, flip_phi: bool) -> pl.DataFrame:
    phi = pl.col(PHIS) * (-1.0 if flip_phi else 1.0) + angle
    wrapped = phi - 2 * math.pi * (phi / (2 * math.pi)).round()
    return frame.with_columns(pl.col(ETAS) * (-1.0 if flip_z else 1.0), wrapped)


def values(frame: pl.DataFrame, name: str) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    features = resolve_features(ATLAS_HIGGS, name=name)
    return features.columns, evaluate(frame, features.expressions).cast(pl.Float64).to_numpy()


def assert_same(columns: tuple[str, ...], a: NDArray[np.float64], b: NDArray[np.float64]) -> None:
    for j, column in enumerate(columns):
        np.testing.assert_array_equal(np.isnan(a[:, j]), np.isnan(b[:, j]), err_msg=column)
        difference = np.nan_to_num(a[:, j] - b[:, j])
        if column.endswith("_phi_can"):  # -pi and pi are the same direction
            difference -= 2 * np.pi * np.round(difference / (2 * np.pi))
        # Rotated angles carry rounding of 1e-15; quotients near a pole enlarge it.
        scale = 1 + np.nan_to_num(np.abs(a[:, j]))
        assert np.max(np.abs(difference) / scale**2) < 1e-9, column


@pytest.mark.parametrize("name", SETS)
@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), angle=st.floats(-7, 7), flip_z=st.booleans(), flip_phi=st.booleans())
def test_turns_and_reflections_change_nothing(name: str, seed: int, angle: float, flip_z: bool, flip_phi: bool) -> None:
    frame = random_events(seed, 40)
    columns, before = values(frame, name)
    _, after = values(moved(frame, angle, flip_z, flip_phi), name)
    assert_same(columns, before, after)


@pytest.mark.parametrize("name", SETS)
def test_a_reflection_of_the_beam_axis_changes_no_bit(name: str) -> None:
    frame, features = random_events(1, 500), resolve_features(ATLAS_HIGGS, name=name)
    mirrored = frame.with_columns(-pl.col(ETAS))
    np.testing.assert_array_equal(feature_matrix(frame, features), feature_matrix(mirrored, features))


@pytest.mark.parametrize("lep", [0.5, 0.5 + math.pi, 0.5 - math.pi])
def test_a_lepton_in_line_with_the_tau_leaves_the_side_to_the_next(two_jets: pl.DataFrame, lep: float) -> None:
    above = changed("canonical", two_jets, PRI_tau_phi=0.5, PRI_lep_phi=lep, PRI_met_phi=1.5, PRI_jet_leading_phi=-1.0)
    below = changed("canonical", two_jets, PRI_tau_phi=0.5, PRI_lep_phi=lep, PRI_met_phi=-0.5, PRI_jet_leading_phi=2.0)
    for found in (above, below):
        assert found["met_phi_can"] == pytest.approx(1.0)
        assert found["jet1_phi_can"] == pytest.approx(-1.5)


def test_all_in_line_but_a_jet(two_jets: pl.DataFrame) -> None:
    line = {"PRI_tau_phi": 0.5, "PRI_lep_phi": 0.5, "PRI_met_phi": 0.5, "PRI_jet_leading_phi": 0.5}
    for side in (1, -1):
        found = changed("canonical", two_jets, **line, PRI_jet_subleading_phi=0.5 + side)
        assert found["jet2_phi_can"] == pytest.approx(1.0)
    nothing_left = changed("canonical", two_jets, **line, PRI_jet_subleading_phi=None)
    assert nothing_left["jet2_phi_can"] is None
    assert nothing_left["met_phi_can"] == 0


def test_a_tau_at_zero_eta_leaves_the_axis_to_the_lepton(two_jets: pl.DataFrame) -> None:
    for side in (1, -1):
        found = changed("canonical", two_jets, PRI_tau_eta=0.0, PRI_lep_eta=side * 0.7, PRI_jet_leading_eta=side * -2.0)
        assert found["tau_eta_can"] == 0
        assert found["lep_eta_can"] == pytest.approx(0.7)
        assert found["jet1_eta_can"] == pytest.approx(-2.0)
    central = {"PRI_tau_eta": 0.0, "PRI_lep_eta": -0.0, "PRI_jet_leading_eta": None, "PRI_jet_subleading_eta": None}
    assert changed("canonical", two_jets, **central)["lep_eta_can"] == 0


def test_angles_as_the_file_rounds_them(two_jets: pl.DataFrame) -> None:
    """3.142 > pi occurs, and stands for pi."""
    found = changed("canonical", two_jets, PRI_tau_phi=3.142, PRI_lep_phi=-3.142, PRI_met_phi=0.0)
    assert found["lep_phi_can"] == pytest.approx(0.000815, abs=1e-6)
    assert abs(found["met_phi_can"] or 0) == pytest.approx(3.1412, abs=1e-4)


@pytest.mark.parametrize("name", ["physics", "momenta"])
def test_whole_numbers_and_floats_give_the_same_matrix(name: str) -> None:
    frame, features = random_events(5, 50), resolve_features(ATLAS_HIGGS, name=name)
    X = feature_matrix(frame, features)
    np.testing.assert_array_equal(X, feature_matrix(frame.cast({"PRI_jet_num": pl.Float64}), features))
    assert X.dtype == np.float32
    assert not np.isinf(X).any()


def test_only_the_steps_that_are_needed_are_evaluated() -> None:
    frame = random_events(6, 5).select("PRI_tau_eta", "PRI_lep_eta")
    quantity = next(q for q in feature_set("canonical").quantities(ATLAS_HIGGS) if q.name == "tau_eta_can")
    X = feature_matrix(frame, Features("one", (quantity,)))
    np.testing.assert_allclose(X[:, 0], frame["PRI_tau_eta"].abs(), rtol=1e-6)
