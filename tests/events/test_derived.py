"""The derived quantities against plain formulas, and what a file knows of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from higgsbench.events import derived as d
from higgsbench.events.derived import ANALYTIC, agreement, columns_of, derive, wrap
from higgsbench.schema import DERIVED, MISSING, PRIMARY, STRUCTURALLY_MISSING

if TYPE_CHECKING:
    import numpy.typing as npt

NAN = float("nan")
Columns = dict[str, "npt.NDArray[np.float64]"]


def vector(pt: float, eta: float, phi: float, mass: float = 0.0) -> npt.NDArray[np.float64]:
    px, py, pz = pt * math.cos(phi), pt * math.sin(phi), pt * math.sinh(eta)
    return np.array([px, py, pz, math.sqrt(px * px + py * py + pz * pz + mass * mass)])


def mass_of(v: npt.NDArray[np.float64]) -> float:
    return math.sqrt(max(v[3] ** 2 - v[0] ** 2 - v[1] ** 2 - v[2] ** 2, 0.0))


def reference(p: dict[str, float]) -> dict[str, float]:
    """The formulas once more: one event, plain four-vectors, no shortcuts."""
    tau, lep = (vector(*(p[f"PRI_{name}_{part}"] for part in ("pt", "eta", "phi"))) for name in ("tau", "lep"))
    massive_tau = vector(p["PRI_tau_pt"], p["PRI_tau_eta"], p["PRI_tau_phi"], d.TAU_VISIBLE_MASS)
    met = vector(p["PRI_met"], 0.0, p["PRI_met_phi"])
    n = p["PRI_jet_num"]
    j1, j2 = (
        vector(*(p[f"PRI_jet_{name}_{part}"] for part in ("pt", "eta", "phi"))) if n >= least else np.zeros(4)
        for least, name in ((1, "leading"), (2, "subleading"))
    )
    total = tau + lep + met + j1 + j2
    dphi = p["PRI_tau_phi"] - p["PRI_lep_phi"]
    dphi = math.atan2(math.sin(dphi), math.cos(dphi))
    sign = math.copysign(1.0, math.sin(p["PRI_tau_phi"] - p["PRI_lep_phi"]))
    a = math.sin(p["PRI_met_phi"] - p["PRI_lep_phi"]) * sign
    b = math.sin(p["PRI_tau_phi"] - p["PRI_met_phi"]) * sign
    eta1, eta2 = p["PRI_jet_leading_eta"], p["PRI_jet_subleading_eta"]
    mt2 = 2 * p["PRI_lep_pt"] * p["PRI_met"] * (1 - math.cos(p["PRI_lep_phi"] - p["PRI_met_phi"]))
    return {
        "DER_mass_transverse_met_lep": math.sqrt(max(mt2, 0.0)),
        "DER_mass_vis": mass_of(massive_tau + lep),
        "DER_pt_h": math.hypot(*(tau + lep + met)[:2]),
        "DER_deltaeta_jet_jet": abs(eta1 - eta2) if n > 1 else NAN,
        "DER_mass_jet_jet": mass_of(j1 + j2) if n > 1 else NAN,
        "DER_prodeta_jet_jet": eta1 * eta2 if n > 1 else NAN,
        "DER_deltar_tau_lep": math.hypot(p["PRI_tau_eta"] - p["PRI_lep_eta"], dphi),
        "DER_pt_tot": math.hypot(*total[:2]),
        "DER_sum_pt": p["PRI_tau_pt"] + p["PRI_lep_pt"] + p["PRI_jet_all_pt"],
        "DER_pt_ratio_lep_tau": p["PRI_lep_pt"] / p["PRI_tau_pt"],
        "DER_met_phi_centrality": (a + b) / math.hypot(a, b),
        "DER_lep_eta_centrality": math.exp(-4 / (eta1 - eta2) ** 2 * (p["PRI_lep_eta"] - (eta1 + eta2) / 2) ** 2)
        if n > 1
        else NAN,
    }


def random_events(n: int, seed: int) -> Columns:
    rng = np.random.default_rng(seed)
    jet_num = rng.integers(0, 4, n)
    columns = {}
    for name in PRIMARY:
        if name.endswith("_phi"):
            columns[name] = rng.uniform(-math.pi, math.pi, n)
        elif name.endswith("_eta"):
            columns[name] = rng.uniform(-2.5, 2.5, n)
        else:
            columns[name] = 20.0 + rng.exponential(30.0, n)
    columns["PRI_jet_num"] = jet_num.astype(np.float64)
    for number, names in STRUCTURALLY_MISSING.items():
        for name in set(names) & set(columns):
            columns[name][jet_num == number] = np.nan
    columns["PRI_jet_all_pt"][jet_num == 0] = 0.0
    return columns


def test_vectorised_formulas_equal_the_scalar_reference() -> None:
    assert tuple(name for name in DERIVED if name != "DER_mass_MMC") == ANALYTIC
    columns = random_events(400, 1)
    found = derive(columns)
    for i in range(400):
        expected = reference({name: float(v[i]) for name, v in columns.items()})
        assert set(expected) == set(found) == set(ANALYTIC)
        for name, value in expected.items():
            assert found[name][i] == pytest.approx(value, rel=1e-9, abs=1e-6, nan_ok=True), name


@given(st.floats(-50.0, 50.0))
def test_wrap_is_in_range_and_equivalent(phi: float) -> None:
    assert wrap(np.array([math.pi]))[0] == -math.pi
    wrapped = float(wrap(np.array([phi]))[0])
    assert -math.pi <= wrapped <= math.pi
    assert math.cos(wrapped) == pytest.approx(math.cos(phi), abs=1e-9)
    assert math.sin(wrapped) == pytest.approx(math.sin(phi), abs=1e-9)


def test_rotation_leaves_derived_quantities_alone() -> None:
    columns = random_events(3000, 4)
    turned = {k: wrap(v + 1.234) if k.endswith("_phi") else v for k, v in columns.items()}
    before, after = derive(columns), derive(turned)
    for name in ANALYTIC:
        np.testing.assert_allclose(after[name], before[name], rtol=1e-6, atol=1e-4, err_msg=name)


def test_columns_of_turns_the_sentinel_and_null_into_nan() -> None:
    frame = pl.DataFrame({"PRI_jet_num": [0, 1], "PRI_jet_leading_pt": [MISSING, None]})
    columns = columns_of(frame, frame.columns)
    assert np.isnan(columns["PRI_jet_leading_pt"]).all()
    assert columns["PRI_jet_num"].tolist() == [0.0, 1.0]


@pytest.mark.parametrize("seed", range(3))
def test_bounds_hold_for_any_rounding_to_three_decimals(seed: int) -> None:
    exact = random_events(3000, seed)
    rounded = {k: np.round(v, 3) for k, v in exact.items()}
    stored = {k: np.round(v, 3) for k, v in derive(exact).items()}
    for name, good in agreement(rounded, stored).items():
        assert good.all(), name


def test_agreement_finds_a_changed_value_in_every_column() -> None:
    exact = random_events(300, 5)
    stored = {k: np.round(v, 3) for k, v in derive(exact).items()}
    rounded = {k: np.round(v, 3) for k, v in exact.items()}
    bounds = d.rounding_bounds(rounded)
    two_jets = exact["PRI_jet_num"] >= 2
    for name in ANALYTIC:
        wrong = dict(stored)
        wrong[name] = stored[name] - (3.0 * bounds[name] + 0.01)
        ok = agreement(rounded, wrong)[name]
        assert not ok[two_jets].any() or name == "DER_met_phi_centrality"
        assert (~ok).mean() > 0.3


def test_agreement_finds_values_present_where_they_cannot_be_and_missing_where_they_must() -> None:
    exact = random_events(200, 6)
    stored = derive(exact)
    invented = {**stored, "DER_mass_jet_jet": np.nan_to_num(stored["DER_mass_jet_jet"], nan=100.0)}
    assert not agreement(exact, invented)["DER_mass_jet_jet"][exact["PRI_jet_num"] < 2].any()
    lost = {**stored, "DER_pt_h": np.full(200, NAN)}
    assert not agreement(exact, lost)["DER_pt_h"].any()


def test_jets_with_masses_agree_one_sidedly() -> None:
    exact = random_events(200, 8)
    stored = derive(exact)
    two = exact["PRI_jet_num"] >= 2
    for factor, good in ((1.2, True), (1.6, False), (0.9, False)):
        changed = {**stored, "DER_mass_jet_jet": stored["DER_mass_jet_jet"] * factor}
        assert agreement(exact, changed)["DER_mass_jet_jet"][two].all() == good


def test_centrality_is_defined_when_everything_is_in_one_line() -> None:
    columns = {name: np.zeros(1) for name in ("PRI_tau_phi", "PRI_lep_phi", "PRI_met_phi")}
    assert derive(columns, ["DER_met_phi_centrality"])["DER_met_phi_centrality"][0] == 0.0


def test_every_real_event_agrees_within_its_bounds(real_events: pl.DataFrame) -> None:
    primary, derived = columns_of(real_events), columns_of(real_events, DERIVED)
    failed = {name: int((~good).sum()) for name, good in agreement(primary, derived).items()}
    assert failed == dict.fromkeys(ANALYTIC, 0)


def test_visible_tau_mass_removes_the_bias_of_the_visible_mass(real_events: pl.DataFrame) -> None:
    recomputed = derive(columns_of(real_events), ["DER_mass_vis"])["DER_mass_vis"]
    assert abs(np.mean(recomputed - real_events["DER_mass_vis"].to_numpy())) < 0.003
