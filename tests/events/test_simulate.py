from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from higgsbench.errors import ConfigError
from higgsbench.events.check import column_types
from higgsbench.events.shifts import Shifts, recognise_processes
from higgsbench.events.simulate import (
    BLOCK,
    SimulationSettings,
    plan_block,
    simulate,
    simulate_batches,
    write_simulated,
)
from higgsbench.events.simulate.particles import decay_to_massless, from_transverse, visible_fraction_leptonic
from higgsbench.events.simulate.processes import PROCESSES
from higgsbench.events.table import content_digest
from higgsbench.schema import ATLAS_HIGGS, FEATURES, MISSING, N_B, N_S, SIMULATED_FROM

if TYPE_CHECKING:
    from pathlib import Path

WEIGHTS = ("Weight", "KaggleWeight")
COLUMNS = list(column_types(ATLAS_HIGGS))
SMALL = SimulationSettings(events=500, seed=3)


def without_weights(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.drop(WEIGHTS)


# layout


def test_official_layout(simulated_events: pl.DataFrame, real_events: pl.DataFrame) -> None:
    assert simulated_events.columns == [*COLUMNS, "process"]
    assert real_events.columns == COLUMNS
    assert dict(real_events.schema) == {k: v for k, v in simulated_events.schema.items() if k != "process"}
    assert simulate(SMALL).columns == COLUMNS  # the truth only where it is asked for
    assert simulated_events["EventId"].to_list() == list(range(SIMULATED_FROM, SIMULATED_FROM + 20_000))


# physics


def test_higgs_mass_moves_the_signal_only() -> None:
    masses = []
    for higgs_mass in (110.0, 140.0):
        frame = simulate(replace(SMALL, events=6000, higgs_mass=higgs_mass)).filter(pl.col("DER_mass_MMC") > 0)
        masses.append(dict(frame.group_by("Label").agg(pl.col("DER_mass_MMC").median()).iter_rows()))
    assert masses[1]["s"] - masses[0]["s"] > 18.0
    assert abs(masses[1]["b"] - masses[0]["b"]) < 6.0


def test_processes_look_like_themselves(simulated_events: pl.DataFrame) -> None:
    names = ("DER_mass_MMC", "DER_mass_transverse_met_lep")
    found = simulated_events.filter(pl.col("DER_mass_MMC") > 0).group_by("process").agg(pl.col(names).median())
    mass, mt = (dict(found.select("process", name).iter_rows()) for name in names)
    assert set(mass) == set(PROCESSES)
    assert 88.0 < mass["Z"] < 102.0
    assert 112.0 < mass["ggF"] < 128.0
    assert 60.0 < mt["W"] < 85.0
    two = simulated_events.filter((pl.col("process") == "VBF") & (pl.col("PRI_jet_num") == 2))
    assert np.median(two["DER_deltaeta_jet_jet"].to_numpy()) > 3.0


def test_decay_conserves_energy_and_momentum() -> None:
    rng = np.random.default_rng(0)
    parent = from_transverse(rng.normal(0, 40, 200), rng.normal(0, 40, 200), rng.normal(size=200), np.full(200, 91.0))
    one, two = decay_to_massless(parent, rng.uniform(-1, 1, 200), rng.uniform(-3, 3, 200))
    np.testing.assert_allclose(parent.mass, 91.0, rtol=1e-9)
    for part in ("px", "py", "pz", "e"):
        total = getattr(one, part) + getattr(two, part)
        np.testing.assert_allclose(total, getattr(parent, part), atol=1e-9)
    for daughter in (one, two):
        assert daughter.mass.max() < 1e-3


def test_leptonic_fraction_follows_its_density() -> None:
    x = visible_fraction_leptonic((np.arange(100_000) + 0.5) / 100_000)
    # moments of (1 - x)(5 + 5x - 4x^2)/3 on [0, 1]
    assert np.mean(x) == pytest.approx(0.35, abs=1e-3)
    assert np.mean(x**2) == pytest.approx(8 / 45, abs=1e-3)


# weights and sets


def test_weights_sum_to_the_reference_totals(simulated_events: pl.DataFrame) -> None:
    for label, total in (("s", N_S), ("b", N_B)):
        of_class = simulated_events.filter(pl.col("Label") == label)
        assert of_class["Weight"].sum() == pytest.approx(total, rel=1e-9)
        for _, group in of_class.group_by("KaggleSet"):
            assert group["KaggleWeight"].sum() == pytest.approx(total, rel=1e-9)


def test_weights_have_the_structure_of_the_official_file(simulated_events: pl.DataFrame) -> None:
    assert (simulated_events["Weight"] > 0).all()
    distinct = {str(name): group["Weight"].n_unique() for (name,), group in simulated_events.group_by("process")}
    assert {k: v for k, v in distinct.items() if k != "W"} == {"ggF": 1, "VBF": 1, "VH": 2, "ttbar": 1, "Z": 13}
    assert distinct["W"] == simulated_events.filter(pl.col("process") == "W").height
    assert recognise_processes(simulated_events["Weight"], simulated_events["Label"]).equals(
        simulated_events["process"]
    )


def test_yields_by_process() -> None:
    plans = [plan_block(SimulationSettings(events=40 * BLOCK), block) for block in range(40)]
    weight, signal, process = (
        np.concatenate([getattr(p, name) for p in plans]) for name in ("weight", "signal", "process")
    )
    names = np.array(list(PROCESSES))[process]
    shares = {"ggF": 0.876, "VBF": 0.079, "VH": 0.045, "W": 0.870, "Z": 0.112, "ttbar": 0.018}
    for name, share in shares.items():
        of_class = weight[signal == (PROCESSES[name].label == "s")]
        assert weight[names == name].sum() / of_class.sum() == pytest.approx(share, abs=0.01)
    assert signal.mean() == pytest.approx(5143 / 15000, abs=0.005)


def test_other_proportions_move_no_event() -> None:
    usual = simulate(SMALL)
    other = simulate(replace(SMALL, set_proportions={"t": 1.0, "b": 0.0, "v": 1.0, "u": 2.0}))
    assert set(other["KaggleSet"]) == {"t", "v", "u"}
    drop = ("KaggleSet", "KaggleWeight")
    assert usual.drop(drop).equals(other.drop(drop))
    for _, group in other.group_by("KaggleSet", "Label"):
        assert group["KaggleWeight"].sum() == pytest.approx(N_S if group["Label"][0] == "s" else N_B, rel=1e-9)


def test_luminosity_scales_weights_only() -> None:
    once, twice = simulate(SMALL), simulate(replace(SMALL, luminosity=2.0))
    assert without_weights(once).equals(without_weights(twice))
    np.testing.assert_allclose(twice.select(WEIGHTS).to_numpy(), 2 * once.select(WEIGHTS).to_numpy(), rtol=1e-12)


def test_mix_switches_processes_off_and_keeps_totals() -> None:
    frame = simulate(replace(SMALL, events=3000, mix={"W": 0.0, "VBF": 0.0, "ttbar": 5.0}), truth=True)
    assert set(frame["process"]) == {"ggF", "VH", "Z", "ttbar"}
    assert frame.filter(pl.col("Label") == "b")["Weight"].sum() == pytest.approx(N_B, rel=1e-9)


# reproducibility

GOLDEN = {
    "plain": (SimulationSettings(events=20_000), "0f37e1f028d8cd40ac3f7f84072b7df4d9a8e69b1884ef3e963d9f5cf8acbde5"),
    "shaped": (
        SimulationSettings(
            events=9001,
            seed=5,
            mix={"ggF": 2.0, "W": 0.3},
            signal_fraction=0.5,
            higgs_mass=120.0,
            luminosity=2.0,
            set_proportions={"t": 1.0, "v": 2.0, "u": 0.5},
        ),
        "d62652f7a50ff93188d1b3783f0da877f3247a25b8a137970674d318c7e9c5d8",
    ),
    "shifted": (
        SimulationSettings(events=4000, seed=3, shifts=Shifts(tes=0.03, soft_met=2.0, w_scale=1.1)),
        "1b844a1a14e7589f2ee199d91ee4019509921c73c7acf260729aebc3f147d060",
    ),
    "rare": (
        SimulationSettings(events=3000, seed=2**40, mix={"Z": 0.0, "ttbar": 0.0}),
        "7ec1d24953ae3b2b2455a4ef3075b799c8af0082f2829e534af7eb6fc05f330c",
    ),
}
"""Settings and the digest of their events in version 3 of the simulation."""


@pytest.mark.parametrize("name", GOLDEN)
def test_events_are_those_of_the_version(name: str) -> None:
    setting, digest = GOLDEN[name]
    # Processors may differ in the last digits of an exponential, which three decimals hide but weights show.
    frame = simulate(setting, truth=True).with_columns(pl.col(WEIGHTS).round_sig_figs(10))
    assert content_digest(frame) == digest


def test_an_event_depends_on_the_number_of_events_through_its_weight_only() -> None:
    long = simulate(SimulationSettings(events=BLOCK + 300, seed=11))
    for events in (1, 700, BLOCK, BLOCK + 1):
        short = simulate(SimulationSettings(events=events, seed=11))
        assert short.height == events
        assert without_weights(short).equals(without_weights(long.head(events)))


def test_seeds_and_blocks_are_independent() -> None:
    assert not without_weights(simulate(SMALL)).equals(without_weights(simulate(replace(SMALL, seed=4))))
    frame = simulate(SimulationSettings(events=2 * BLOCK, seed=2))
    first, second = frame.head(BLOCK)["PRI_tau_pt"], frame.tail(BLOCK)["PRI_tau_pt"]
    assert abs(np.corrcoef(first.to_numpy(), second.to_numpy())[0, 1]) < 0.05
    assert (first == second).sum() < 20


def test_a_consumer_may_stop_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("higgsbench.events.simulate._BATCH", 2)
    batches = simulate_batches(SimulationSettings(events=5 * BLOCK, seed=1), jobs=2)
    first = next(batches)
    assert first["EventId"][0] == SIMULATED_FROM
    assert isinstance(batches, Generator)
    batches.close()


def test_identity_depends_on_every_setting() -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"events": 501},
        {"seed": 4},
        {"mix": {"Z": 2.0}},
        {"signal_fraction": 0.5},
        {"higgs_mass": 130.0},
        {"luminosity": 2.0},
        {"set_proportions": {"t": 1.0}},
        {"shifts": Shifts(tes=0.01)},
    ]
    digests = [replace(SMALL, **change).identity() for change in changes]
    assert len(set(digests)) == len(digests)
    assert replace(SMALL, luminosity=1).identity() == SMALL.identity()  # equal settings, one digest
    assert all(re.fullmatch("[0-9a-f]{16}", d) for d in digests)
    assert replace(SMALL, mix={"Z": 1.0}).identity() == SMALL.identity()


# settings


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"events": 0}, "events"),
        ({"seed": -1}, "seed"),
        ({"mix": {"WW": 1.0}}, "WW"),
        ({"mix": {"Z": -1.0}}, "Z"),
        ({"mix": {"Z": 0.0, "W": 0.0, "ttbar": 0.0}}, "background"),
        ({"signal_fraction": 1.0}, "signal_fraction"),
        ({"higgs_mass": 90.0}, "higgs_mass"),
        ({"luminosity": 0.0}, "luminosity"),
        ({"luminosity": float("nan")}, "luminosity"),
        ({"set_proportions": {"x": 1.0}}, "x"),
        ({"set_proportions": {}}, "set_proportions"),
        ({"set_proportions": {"t": 0.0}}, "set_proportions"),
    ],
)
def test_wrong_settings_are_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        replace(SMALL, **change)


@settings(max_examples=5)
@given(st.integers(0, 2**63 - 1), st.integers(1, 60))
def test_any_seed_and_number_of_events_work(seed: int, events: int) -> None:
    frame = simulate(SimulationSettings(events=events, seed=seed))
    assert frame.height == events
    for label, total in (("s", N_S), ("b", N_B)):
        present = frame.filter(pl.col("Label") == label)
        assert present.is_empty() or present["Weight"].sum() == pytest.approx(total, rel=1e-9)


def test_shifts_apply_to_simulated_events() -> None:
    shifts = Shifts(tes=0.1, ttbar_scale=2.0)
    plain, shifted = (simulate(setting, truth=True) for setting in (SMALL, replace(SMALL, shifts=shifts)))
    np.testing.assert_allclose(shifted["PRI_tau_pt"].to_numpy(), 1.1 * plain["PRI_tau_pt"].to_numpy(), atol=0.0006)
    ratio = shifted["Weight"].to_numpy() / plain["Weight"].to_numpy()
    np.testing.assert_allclose(ratio, np.where(plain["process"].to_numpy() == "ttbar", 2.0, 1.0), rtol=1e-12)


# files


@pytest.mark.parametrize("name", ["events.csv", "events.csv.gz", "events.parquet"])
def test_files_hold_the_events_and_do_not_depend_on_jobs(tmp_path: Path, name: str) -> None:
    # more than one block, so that there is something to share among processes, where writing it is fast
    setting = SimulationSettings(events=BLOCK + 100 if name.endswith("parquet") else 900, seed=6)
    path = write_simulated(setting, tmp_path / name)
    again = write_simulated(setting, tmp_path / f"again-{name}", jobs=2)
    read = pl.read_parquet if name.endswith("parquet") else pl.read_csv
    assert read(path).equals(simulate(setting))
    assert read(again).equals(simulate(setting))
    assert path.read_bytes() == again.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, f"again-{name}"])


def test_csv_looks_like_the_official_one(tmp_path: Path) -> None:
    lines = write_simulated(SMALL, tmp_path / "x.csv").read_text().splitlines()
    assert lines[0] == ",".join(COLUMNS)
    decimals = re.compile(r"-?\d+\.\d{1,3}")
    for line in lines[1:50]:
        cells = dict(zip(COLUMNS, line.split(","), strict=True))
        for feature in FEATURES:
            if feature in ATLAS_HIGGS.integers:
                assert cells[feature] in "0123"
            else:
                assert decimals.fullmatch(cells[feature]), (feature, cells[feature])


def test_unknown_endings_and_directories_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.parquet"):
        write_simulated(SMALL, tmp_path / "x.root")
    with pytest.raises(ConfigError, match="jobs"):
        simulate(SMALL, jobs=0)
    with pytest.raises(ConfigError, match="does not exist"):
        write_simulated(SMALL, tmp_path / "nowhere" / "x.csv")


@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz", "x.parquet"])
def test_a_failure_leaves_only_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def fail(*_: object, **__: object) -> pl.DataFrame:
        raise RuntimeError("interrupted")

    (tmp_path / name).write_text("old")
    monkeypatch.setattr("higgsbench.events.simulate.simulate_block", fail)
    with pytest.raises(Exception, match="interrupted"):
        write_simulated(SMALL, tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "old"


# against real events


def test_jets_and_missing_masses_are_like_real_ones(simulated_events: pl.DataFrame, real_events: pl.DataFrame) -> None:
    for label in ("s", "b"):
        shares, missing = [], []
        for frame in (simulated_events, real_events):
            chosen = frame.filter(pl.col("Label") == label)
            weight = chosen["Weight"].to_numpy()
            shares.append(np.bincount(chosen["PRI_jet_num"].to_numpy(), weights=weight) / weight.sum())
            missing.append(weight[chosen["DER_mass_MMC"].to_numpy() == MISSING].sum() / weight.sum())
        np.testing.assert_allclose(shares[0], shares[1], atol=0.025)
        assert missing[0] == pytest.approx(missing[1], abs=0.03)
