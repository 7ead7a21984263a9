from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from higgsbench.errors import ConfigError, DataError
from higgsbench.events.derived import ANALYTIC, agreement, columns_of, derive, rounding_bounds, wrap
from higgsbench.events.shifts import _FAIR_NAMES, THRESHOLDS, Shifts, apply_shifts, recognise_processes
from higgsbench.events.simulate import SimulationSettings, simulate
from higgsbench.schema import ATLAS_HIGGS, DERIVED, FAIR_UNIVERSE, FAIR_UNIVERSE_2023, FEATURES, MISSING, PRIMARY

EVENTS = simulate(SimulationSettings(events=2500, seed=17), truth=True)
ENERGY = [
    Shifts(tes=0.03),
    Shifts(tes=-0.05),
    Shifts(jes=0.04),
    Shifts(jes=-0.02),
    Shifts(soft_met=3.0),
    Shifts(tes=0.02, jes=-0.03, soft_met=1.0),
]


def test_a_zero_shift_is_the_identity() -> None:
    assert apply_shifts(EVENTS, Shifts()).equals(EVENTS)
    assert apply_shifts(EVENTS, Shifts(tes=0.05, jes=0.05, soft_met=5.0)).schema == EVENTS.schema
    assert Shifts().is_zero
    assert not Shifts(tes=0.01).is_zero


@pytest.mark.parametrize("shifts", ENERGY, ids=str)
def test_back_and_forth_returns_within_the_resolution_of_the_file(shifts: Shifts) -> None:
    there = apply_shifts(EVENTS, shifts, seed=4)
    assert all(good.all() for good in agreement(columns_of(there), columns_of(there, DERIVED)).values())
    back = apply_shifts(there, shifts.inverse(), seed=4)
    before, after = columns_of(EVENTS, FEATURES), columns_of(back, FEATURES)
    bounds = rounding_bounds(before)
    for name in PRIMARY:
        difference = after[name] - before[name]
        if name.endswith("_phi"):
            # the direction of a small missing momentum is only known to rounding / size
            difference = wrap(difference) * np.minimum(1.0, before["PRI_met"] / 5.0)
        assert np.nanmax(np.abs(difference)) <= 0.015, name
    for name in ANALYTIC:
        close = np.isnan(before[name]) | (np.abs(after[name] - before[name]) <= 4 * bounds[name] + 0.01)
        assert close.mean() > 0.997, name
        np.testing.assert_array_equal(np.isnan(before[name]), np.isnan(after[name]))
    mass, again = before["DER_mass_MMC"], after["DER_mass_MMC"]
    assert (np.isnan(mass) == np.isnan(again)).mean() > 0.98
    assert np.nanmedian(np.abs(mass - again)) < 0.01


@pytest.mark.parametrize("shifts", ENERGY, ids=str)
def test_missing_momentum_takes_up_what_taus_and_jets_gain(shifts: Shifts) -> None:
    totals = []
    for frame in (EVENTS, apply_shifts(EVENTS, replace(shifts, soft_met=0.0))):
        c = columns_of(frame)
        total = np.zeros(frame.height, dtype=np.complex128)
        for name in ("PRI_tau", "PRI_lep", "PRI_jet_leading", "PRI_jet_subleading"):
            total += np.nan_to_num(c[f"{name}_pt"] * np.exp(1j * c[f"{name}_phi"]))
        totals.append(total + c["PRI_met"] * np.exp(1j * c["PRI_met_phi"]))
    scale = 0.005 + 0.001 * EVENTS["PRI_met"].to_numpy()
    assert (np.abs(totals[1] - totals[0]) <= scale).all()


def test_scalar_sums_change_with_their_parts() -> None:
    before, after = columns_of(EVENTS), columns_of(apply_shifts(EVENTS, Shifts(tes=0.1, jes=0.2)))
    np.testing.assert_allclose(after["PRI_jet_all_pt"], 1.2 * before["PRI_jet_all_pt"], atol=0.001)
    gained = 0.1 * before["PRI_tau_pt"] + 0.2 * before["PRI_jet_all_pt"]
    np.testing.assert_allclose(after["PRI_met_sumet"] - before["PRI_met_sumet"], gained, atol=0.0015)
    np.testing.assert_array_equal(after["PRI_lep_pt"], before["PRI_lep_pt"])


def test_jet_scale_leaves_events_without_jets_alone() -> None:
    moved = apply_shifts(EVENTS, Shifts(jes=0.1))
    none = pl.col("PRI_jet_num") == 0
    assert moved.filter(none).equals(EVENTS.filter(none))
    assert not moved.filter(~none).equals(EVENTS.filter(~none))


def test_soft_missing_momentum_has_the_asked_width_and_its_own_seed() -> None:
    def kick(seed: int) -> Any:
        moved = apply_shifts(EVENTS, Shifts(soft_met=3.0), seed=seed)
        vectors = [f["PRI_met"].to_numpy() * np.exp(1j * f["PRI_met_phi"].to_numpy()) for f in (EVENTS, moved)]
        return vectors[1] - vectors[0]

    one, two = kick(1), kick(2)
    assert [np.std(one.real), np.std(one.imag)] == pytest.approx([3.0, 3.0], rel=0.08)
    for other in (one.imag, two.real):
        assert abs(np.corrcoef(one.real, other)[0, 1]) < 0.08
    np.testing.assert_array_equal(one, kick(1))


def test_pieces_of_a_file_shift_like_the_whole() -> None:
    shifts = Shifts(tes=0.02, jes=0.01, soft_met=2.0, ttbar_scale=1.2)
    names = EVENTS["process"]
    whole = apply_shifts(EVENTS, shifts, 3, processes=names)
    pieces = [apply_shifts(EVENTS.slice(i, 700), shifts, 3, processes=names.slice(i, 700)) for i in range(0, 2500, 700)]
    together = pl.concat(pieces)
    for name in EVENTS.columns:
        assert together[name].equals(whole[name]), name


def test_nulls_for_missing_values_stay_nulls() -> None:
    nulls = EVENTS.with_columns(pl.when(pl.col(n) != MISSING).then(pl.col(n)).alias(n) for n in FEATURES)
    shifts = Shifts(tes=-0.05, jes=-0.03, soft_met=2.0)
    for reselect in (False, True):
        expected = apply_shifts(EVENTS, shifts, reselect=reselect)
        found = apply_shifts(nulls, shifts, reselect=reselect)
        assert found.with_columns(pl.col(FEATURES).fill_null(MISSING)).equals(expected)
        assert not (found["DER_mass_MMC"] == MISSING).any()


def test_reselect_drops_what_falls_below_the_thresholds() -> None:
    shifts = Shifts(tes=-0.1, jes=-0.1)
    every, selected = apply_shifts(EVENTS, shifts), apply_shifts(EVENTS, shifts, reselect=True)
    assert every.height == EVENTS.height > selected.height
    for name, least in THRESHOLDS.items():
        assert (selected.filter(pl.col(name) != MISSING)[name] >= least).all()


@pytest.mark.parametrize("process", ["Z", "W", "ttbar", "ggF", "VBF", "VH"])
def test_process_normalisation_scales_its_process_and_can_be_undone(process: str) -> None:
    shifts = Shifts(**{f"{process.lower()}_scale": 1.25})
    moved = apply_shifts(EVENTS, shifts)
    ratio = moved["Weight"].to_numpy() / EVENTS["Weight"].to_numpy()
    np.testing.assert_allclose(ratio, np.where(EVENTS["process"].to_numpy() == process, 1.25, 1.0), rtol=1e-12)
    np.testing.assert_allclose(moved["KaggleWeight"].to_numpy() / EVENTS["KaggleWeight"].to_numpy(), ratio, rtol=1e-12)
    back = apply_shifts(moved, shifts.inverse())  # recognised although one process now stands apart
    np.testing.assert_allclose(back["Weight"].to_numpy(), EVENTS["Weight"].to_numpy(), rtol=1e-12)
    assert back.select(FEATURES).equals(EVENTS.select(FEATURES))


def test_unrecognisable_processes_are_an_error_only_when_asked_for() -> None:
    frame = EVENTS.drop("process").with_columns(pl.lit(1.0).alias("Weight"))
    apply_shifts(frame, Shifts(tes=0.01))
    moved = apply_shifts(frame, Shifts(bkg_scale=1.1))
    assert dict(moved.select("Label", "Weight").unique().iter_rows()) == {"b": 1.1, "s": 1.0}
    with pytest.raises(DataError, match="processes"):
        apply_shifts(frame, Shifts(z_scale=1.1))
    distinct = pl.Series(np.random.default_rng(0).uniform(0.1, 2.0, 500))
    with pytest.raises(DataError, match="processes"):
        recognise_processes(distinct, pl.Series(["b"] * 500))


def test_missing_columns_are_named() -> None:
    with pytest.raises(DataError, match="PRI_tau_pt"):
        apply_shifts(EVENTS.drop("PRI_tau_pt"), Shifts(tes=0.01))
    with pytest.raises(DataError, match="Label"):
        apply_shifts(EVENTS.drop("Label"), Shifts(bkg_scale=1.1))


def test_events_of_fair_universe_shift_like_those_of_the_challenge() -> None:
    names = {own: name for name, own in _FAIR_NAMES.items()}
    chosen = [names.get(name, name) for name in FAIR_UNIVERSE.features]
    events = EVENTS.select(*chosen, EventId="EventId", labels=pl.col("Label").replace({"s": "1", "b": "0"}),
                           weights="Weight", detailed_labels="process")  # fmt: skip
    shifts, schema = Shifts(tes=0.02, jes=-0.03, soft_met=1.0), replace(FAIR_UNIVERSE, event_id="EventId")
    moved = apply_shifts(events.rename(_FAIR_NAMES, strict=False), shifts, seed=4, schema=schema)
    moved, expected = moved.select(FAIR_UNIVERSE.features).rename(names), apply_shifts(EVENTS, shifts, seed=4)
    assert moved.drop("DER_mass_vis").equals(expected.select(chosen).drop("DER_mass_vis"))
    # The tau has no mass there, so the mass grows with the root of the tau's momentum.
    assert moved["DER_mass_vis"].to_numpy() == pytest.approx(EVENTS["DER_mass_vis"] * np.sqrt(1.02), abs=0.00051)
    scaled = apply_shifts(events, Shifts(bkg_scale=2.0, z_scale=3.0), schema=schema)["weights"] / events["weights"]
    factors = {"Z": 6.0, "W": 2.0, "ttbar": 2.0}
    assert scaled.to_list() == pytest.approx([factors.get(name, 1.0) for name in events["detailed_labels"]])
    with pytest.raises(DataError, match="column detailed_labels has no process VH; it has Z"):
        apply_shifts(events.filter(pl.col("detailed_labels") == "Z"), Shifts(vh_scale=2.0), schema=schema)


def bundle_events() -> pl.DataFrame:
    """Events in the layout of the bundle of 2023, which counts the tau as a jet."""
    c = columns_of(EVENTS.filter(pl.col("PRI_jet_num") < 2), [n for n in PRIMARY if n != "PRI_met_sumet"])
    alone = c["PRI_jet_num"] == 0
    harder = alone | (c["PRI_tau_pt"] > c["PRI_jet_leading_pt"])
    for part in ("pt", "eta", "phi"):
        tau, jet = c[f"PRI_tau_{part}"], c[f"PRI_jet_leading_{part}"]
        c[f"PRI_jet_leading_{part}"], c[f"PRI_jet_subleading_{part}"] = (
            np.where(harder, tau, jet), np.where(harder, jet, tau)
        )  # fmt: skip
    c["PRI_jet_all_pt"] = np.where(alone, 0.0, c["PRI_jet_all_pt"] + c["PRI_tau_pt"])
    c["PRI_jet_num"] += 1
    c |= derive(c)
    mass = np.sqrt(2 * c["PRI_tau_pt"] * c["PRI_lep_pt"] * (1 - np.cos(c["PRI_tau_phi"] - c["PRI_lep_phi"])))
    c = {_FAIR_NAMES.get(name, name): values for name, values in c.items()}
    c |= {"DER_mass_transverse_lep_had": mass, "DER_deltar_lep_had": c["DER_deltar_had_lep"]}
    c |= {"PRI_electron_flag": alone * 1.0, "PRI_muon_flag": ~alone * 1.0}
    return pl.DataFrame(c).with_columns(EventId=np.arange(len(alone))).fill_nan(None)


@pytest.mark.parametrize("shifts", ENERGY, ids=str)
def test_a_tau_that_counts_as_a_jet_moves_as_a_tau_and_once(shifts: Shifts) -> None:
    events, names = bundle_events(), {own: name for name, own in _FAIR_NAMES.items()}
    moved = apply_shifts(events, shifts, seed=4, schema=FAIR_UNIVERSE_2023)
    before, after = (columns_of(f, f.columns) for f in (f.rename(names, strict=False) for f in (events, moved)))
    again = derive(after)
    for name in ANALYTIC:
        close = np.abs(after[name] - again[name]) <= rounding_bounds(after, [name])[name] + 1e-9
        assert (close | np.isnan(again[name])).all(), name
    digits = after["DER_met_phi_centrality"]  # derived quantities keep their digits, measured ones have three
    assert (digits != np.round(digits, 3)).any()
    tau, first, second = (after[f"PRI_{part}_pt"] for part in ("tau", "jet_leading", "jet_subleading"))
    assert ((tau == first) | (tau == second)).all()
    assert not (first < second).any()
    np.testing.assert_allclose(after["PRI_jet_all_pt"], np.where(np.isnan(second), 0.0, first + second), atol=0.002)
    # Without the second count of the tau, the events move as those of the challenge do.
    same = EVENTS.filter(pl.col("PRI_jet_num") < 2).with_columns(EventId=events["EventId"])
    official = apply_shifts(same, shifts, seed=4)
    for name in ("PRI_tau_pt", "PRI_met"):
        np.testing.assert_allclose(after[name], official[name].to_numpy(), atol=0.002)
    ratio = after["DER_mass_transverse_lep_had"] / before["DER_mass_transverse_lep_had"]
    assert np.median(ratio) == pytest.approx(np.sqrt(1 + shifts.tes), rel=1e-3)
    assert moved["PRI_electron_flag"].equals(events["PRI_electron_flag"])


def test_features_that_cannot_be_recomputed_are_named() -> None:
    schema = replace(ATLAS_HIGGS, name="own", features=(*FEATURES, "m_own"))
    with pytest.raises(DataError, match="cannot recompute m_own; use a layout"):
        apply_shifts(EVENTS.with_columns(m_own=1.0), Shifts(tes=0.01), schema=schema)


def test_files_without_labels_weights_and_numbers_can_be_shifted_in_energy() -> None:
    test_file = EVENTS.select(FEATURES)
    moved = apply_shifts(test_file, Shifts(tes=0.03, soft_met=1.0))
    assert moved.columns == test_file.columns
    assert not moved.equals(test_file)


@pytest.mark.parametrize("change", [{"tes": -1.0}, {"jes": float("nan")}, {"z_scale": 0.0}, {"bkg_scale": -1.0}])
def test_wrong_sizes_are_named(change: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        Shifts(**change)


def test_real_events_shift_and_return(real_events: pl.DataFrame) -> None:
    shifts = Shifts(tes=0.03, jes=0.03, soft_met=2.0, w_scale=1.1, ttbar_scale=0.9)
    moved = apply_shifts(real_events, shifts, seed=1)
    assert all(good.all() for good in agreement(columns_of(moved), columns_of(moved, DERIVED)).values())
    back = apply_shifts(moved, shifts.inverse(), seed=1)
    assert np.abs(back["PRI_tau_pt"].to_numpy() - real_events["PRI_tau_pt"].to_numpy()).max() <= 0.0011
    assert np.abs(back["DER_mass_vis"].to_numpy() - real_events["DER_mass_vis"].to_numpy()).max() <= 0.003
    np.testing.assert_allclose(back["Weight"].to_numpy(), real_events["Weight"].to_numpy(), rtol=1e-12)


def test_processes_of_real_events_have_their_known_shares(real_events: pl.DataFrame) -> None:
    shares = {}
    for name in ("Weight", "KaggleWeight"):
        processes = recognise_processes(real_events[name], real_events["Label"])
        weighted = real_events.with_columns(processes).group_by("process").agg(pl.col(name).sum())
        shares[name] = dict(weighted.iter_rows())
    weights = shares["Weight"]
    background = weights["W"] + weights["Z"] + weights["ttbar"]
    for process, share in (("W", 0.870), ("Z", 0.112), ("ttbar", 0.018)):
        assert weights[process] / background == pytest.approx(share, abs=0.01)
    assert shares["KaggleWeight"]["W"] / weights["W"] == pytest.approx(3.2797, rel=1e-3)
