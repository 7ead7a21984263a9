from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from higgsbench.errors import DataError
from higgsbench.events import load_events, open_events
from higgsbench.explore import explore
from higgsbench.explore.result import Exploration
from higgsbench.metrics import ams, effective_sample_size, evaluation_weights, roc_auc
from higgsbench.schema import N_B, N_S, TableSchema

from . import reference
from .conftest import TOY, toy_frame


def described(frame: pl.DataFrame, label: str = "all", feature: str = "x") -> pl.DataFrame:
    """Described events of a class in which a feature is present."""
    frame = frame.filter(pl.col("part") == "t", pl.col(feature) != -999.0)
    return frame if label == "all" else frame.filter(truth="1" if label == "signal" else "0")


def lists(frame: pl.DataFrame, *names: str) -> list[list[float]]:
    return [frame[name].cast(pl.Float64).to_list() for name in names]


Toy = tuple[Path, pl.DataFrame]
Change = Callable[[pl.DataFrame], pl.DataFrame]


class TestToy:
    def test_moments_extremes_and_histograms_equal_the_plain_ones(self, toy: Toy, toy_found: Exploration) -> None:
        for feature in toy_found.features:
            for summary in feature.classes:
                x, w = lists(described(toy[1], summary.label, feature.name), feature.name, "w")
                assert summary.present == len(x)
                assert summary.mean == pytest.approx(np.average(x, weights=w), rel=1e-9, abs=1e-12)
                assert summary.std == pytest.approx(np.cov(x, aweights=w, bias=True) ** 0.5, rel=1e-9)
                assert (summary.minimum, summary.maximum) == (min(x), max(x))
                bars = summary.histogram
                for found, weights in ((bars.values, np.array(w)), (bars.variances, np.array(w) ** 2)):
                    expected, _ = np.histogram(x, np.array(feature.edges), weights=weights)
                    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
                assert sum(bars.values) + bars.below + bars.above == pytest.approx(sum(w), rel=1e-12)
        assert toy_found.n_s == pytest.approx(described(toy[1], "signal")["w"].sum())

    def test_correlations_use_the_events_that_have_both(self, toy: Toy, toy_found: Exploration) -> None:
        for part in toy_found.correlations:
            x, y, w = lists(described(toy[1], part.label, "y"), "x", "y", "w")
            (xx, xy), (_, yy) = np.cov(x, y, aweights=w)
            assert part.matrix[0][1] == pytest.approx(xy / (xx * yy) ** 0.5, rel=1e-9)
            assert part.matrix[1][0] == part.matrix[0][1]
            assert part.matrix[0][0] == pytest.approx(1.0)

    def test_auc_is_exact_where_every_value_has_its_bin(self, toy: Toy, toy_found: Exploration) -> None:
        feature, frame = toy_found.features[0], described(toy[1])
        exact = roc_auc((frame["truth"] == "1").to_numpy(), frame["x"].to_numpy(), frame["w"].to_numpy())
        assert feature.auc_binning == 0.0
        assert feature.auc == pytest.approx(exact.value, abs=1e-12)
        assert feature.auc_se == pytest.approx(np.sqrt(np.sum(exact.influence**2)), rel=1e-9)

    def test_drift_equals_the_plain_distance(self, toy: Toy, toy_found: Exploration) -> None:
        (here,), (there,) = (lists(toy[1].filter(part=p), "x") for p in "tv")
        row = next(r for r in toy_found.drift if r.feature == "x")
        distance = reference.ks(here, [1.0] * len(here), there, [1.0] * len(there))
        assert row.ks == pytest.approx(distance, abs=1e-12)
        assert row.ks_binning <= 0.05
        assert not any(r.flagged for r in toy_found.drift)

    def test_drift_finds_a_shift_and_new_holes(self, toy: Toy, tmp_path: Path) -> None:
        other = toy_frame(seed=4).with_columns(
            x=pl.when(pl.int_range(pl.len()) % 5 == 0).then(-999.0).otherwise(pl.col("x")), y=pl.col("x") + 0.5
        )
        other.drop("w", "truth", "part").write_csv(tmp_path / "test.csv")
        found = explore(toy[0], test=tmp_path / "test.csv", schema=TOY, subsets=["t", "v"])
        flagged = {r.feature for r in found.drift if r.flagged}
        assert flagged == {"x", "y"}
        assert next(r for r in found.drift if r.feature == "x").missing_other == pytest.approx(0.2)
        assert [s.name for s in found.samples] == ["t + v", "test.csv"]
        assert found.samples[1].signal is None

    def test_missing_counts_and_shares(self, toy: Toy, toy_found: Exploration) -> None:
        assert {r.feature for r in toy_found.missing} == {"y"}
        for row in toy_found.missing:
            rows = described(toy[1], row.label)
            if row.group is not None:
                rows = rows.filter(k=row.group)
            gone = rows.filter(y=-999.0)
            assert (row.events, row.missing) == (rows.height, gone.height)
            assert row.weighted_share == pytest.approx(float(gone["w"].sum()) / float(rows["w"].sum()))

    def test_any_parts_give_the_same(self, toy: Toy, toy_found: Exploration, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("higgsbench.explore.counts.PART", 89)
        monkeypatch.setattr("higgsbench.explore.open_events", partial(open_events, large=0))
        a, b = (_flat(found.to_dict()) for found in (toy_found, explore(toy[0], schema=TOY)))
        assert a.keys() == b.keys()
        for key, value in a.items():
            assert b[key] == (pytest.approx(value, rel=1e-9, abs=1e-9) if isinstance(value, float) else value), key

    def test_large_files_are_sampled(self, toy: Toy, toy_found: Exploration, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("higgsbench.explore.counts._SAMPLE", 500)
        sampled = explore(toy[0], schema=TOY)
        assert sampled.groups == toy_found.groups
        for ours, theirs in zip(sampled.features, toy_found.features, strict=True):
            for a, b in zip(ours.classes, theirs.classes, strict=True):
                assert a.mean == pytest.approx(b.mean, rel=1e-9, abs=1e-9)
                assert a.quantiles == pytest.approx(b.quantiles, abs=0.1)
            assert ours.auc == pytest.approx(theirs.auc, abs=(ours.auc_binning or 0.0) + 1e-9)

    def test_split_study_is_the_ams_of_its_numbers(self, toy: Toy, toy_found: Exploration) -> None:
        study, frame = toy_found.split, described(toy[1])
        assert study is not None
        for case in study.cases:
            assert case.ams == pytest.approx(ams(case.s, case.b))
        whole = next(c for c in study.cases if c.fraction == 1.0 and c.selection != "all events")
        x, y = frame[study.feature].to_numpy(), (frame["truth"] == "1").to_numpy()
        chosen = x >= study.cut if study.above else x < study.cut
        w = evaluation_weights(y, frame["w"].to_numpy(), toy_found.n_s or 0.0, toy_found.n_b or 0.0)
        assert (whole.s, whole.b) == pytest.approx((w[chosen & y].sum(), w[chosen & ~y].sum()))
        raw, rescaled = (c for c in study.cases if c.fraction == 0.2 and c.selection == "all events")
        assert raw.ams < 0.6 * rescaled.ams


def _flat(value: object, key: str = "") -> dict[str, object]:
    if isinstance(value, dict):
        return {k: v for name, item in value.items() for k, v in _flat(item, f"{key}.{name}").items()}
    if isinstance(value, list):
        return {k: v for i, item in enumerate(value) for k, v in _flat(item, f"{key}[{i}]").items()}
    return {key: value}


class TestLayouts:
    @pytest.mark.parametrize(
        ("change", "note"),
        [
            (lambda frame: frame.drop("truth", "w", "part"), "The events carry no column truth"),
            (lambda frame: frame.filter(truth="0"), "One class is absent"),
            (lambda frame: frame[:1], "One class is absent"),
            (lambda frame: frame.with_columns(k=pl.int_range(pl.len())), "Column k has too many values"),
        ],
    )
    def test_notes_say_what_is_left_out(self, tmp_path: Path, change: Change, note: str) -> None:
        change(toy_frame()).write_csv(tmp_path / "toy.csv")
        found = explore(tmp_path / "toy.csv", schema=TOY)
        assert any(text.startswith(note) for text in found.notes)
        known = note.startswith("Column k")
        assert found.labelled == (found.split is not None) == any(f.auc for f in found.features) == known
        assert (found.group is None) == known

    def test_no_group_weight_id_or_missing(self, tmp_path: Path) -> None:
        schema = TableSchema(name="plain", features=("x", "y"), label="truth", signal="1", background=None)
        path = tmp_path / "plain.csv"
        toy_frame().filter(pl.col("y") != -999.0).select("truth", "x", "y").write_csv(path)
        found = explore(path, schema=schema)
        assert (found.group, found.weight, found.missing) == (None, None, ())
        assert [g.group for g in found.groups] == [None]
        assert found.columns[1].unit is None
        assert len(found.notes) == 4

    def test_columns_that_are_constant_or_empty(self, tmp_path: Path) -> None:
        toy_frame().with_columns(x=pl.lit(2.5), y=pl.lit(-999.0)).write_csv(tmp_path / "c.csv")
        found = explore(tmp_path / "c.csv", schema=TOY)
        x, y, _ = found.features
        assert x.auc == pytest.approx(0.5)
        assert x.classes[0].std == pytest.approx(0.0, abs=1e-6)
        assert y.auc is None
        assert y.classes == ()
        assert np.isnan(found.correlations[0].matrix[0][2])
        json.dumps(found.to_dict(), allow_nan=False)

    def test_negative_weights_where_the_layout_allows_them(self, tmp_path: Path) -> None:
        schema = dataclasses.replace(TOY, negative_weights=True)
        frame = toy_frame().with_columns(w=pl.when(pl.int_range(pl.len()) % 10 == 0).then(-pl.col("w")).otherwise("w"))
        frame.write_csv(tmp_path / "nlo.csv")
        found = explore(tmp_path / "nlo.csv", schema=schema)
        assert sum(w.negative for w in found.weights) == described(frame).filter(pl.col("w") < 0).height
        assert any("negative" in note for note in found.notes)


@pytest.mark.parametrize(
    ("left_out", "subsets", "message"),
    [((), ["u"], "no event in subset 'u'; it has t, v"), (("part",), ["t"], "no subset column")],
)
def test_absent_subsets(toy: Toy, tmp_path: Path, left_out: tuple[str, ...], subsets: list[str], message: str) -> None:
    toy[1].drop(left_out).write_csv(tmp_path / "p.csv")
    with pytest.raises(DataError, match=message):
        explore(tmp_path / "p.csv", schema=TOY, subsets=subsets)


class TestRealSample:
    def test_expected_events_by_jet_number(self, sample_found: Exploration) -> None:
        assert (sample_found.n_s, sample_found.n_b) == (N_S, N_B)
        published = {0: (364.6, 279454), 1: (204.4, 95510), 2: (94.2, 26508), 3: (28.8, 9528)}
        for row in sample_found.groups[:-1]:
            assert row.group is not None
            s, b = published[row.group]
            assert row.signal_expected == pytest.approx(s, rel=0.1)
            assert row.background_expected == pytest.approx(b, rel=0.1)
        assert sample_found.groups[-1].s_over_b == pytest.approx(N_S / N_B)

    def test_missing_shares(self, sample_found: Exploration) -> None:
        rows = {(r.feature, r.group, r.label): r for r in sample_found.missing}
        assert len({r.feature for r in sample_found.missing}) == 11
        signal, background = (rows["DER_mass_MMC", None, label] for label in ("signal", "background"))
        assert signal.share == pytest.approx(0.033, abs=0.005)
        assert background.share == pytest.approx(0.214, abs=0.01)
        assert signal.weighted_share == pytest.approx(0.012, abs=0.004)
        assert background.weighted_share == pytest.approx(0.294, abs=0.015)
        for group, share in ((0, 1.0), (1, 1.0), (2, 0.0), (3, 0.0)):
            assert rows["DER_deltaeta_jet_jet", group, "signal"].weighted_share == share

    def test_effective_events_and_auc_within_stated_error(self, sample_found: Exploration, sample_file: Path) -> None:
        events = load_events(sample_file, cache=False)
        for summary in sample_found.weights:
            w = events.weight[events.y == (summary.label == "signal")]
            assert summary.effective == pytest.approx(effective_sample_size(w), rel=1e-6)
        for feature in sample_found.features:
            x = events.frame[feature.name].cast(pl.Float64).fill_null(float("nan")).to_numpy()
            present = ~np.isnan(x)
            exact = roc_auc(events.y[present], x[present], events.weight[present]).value
            assert feature.auc is not None
            assert feature.auc_binning is not None
            assert feature.auc_binning < 2e-4
            assert abs(feature.auc - exact) <= feature.auc_binning + 1e-9
            raw = roc_auc(events.y, np.where(present, x, -999.0), events.weight).value
            assert feature.auc_missing_low == pytest.approx(raw, abs=2e-4)

    def test_angles_are_shown_over_the_full_turn(self, sample_found: Exploration) -> None:
        feature = next(f for f in sample_found.features if f.name == "PRI_tau_phi")
        assert feature.edges[0] == -feature.edges[-1] == -3.1425
        assert all(c.histogram.below == c.histogram.above == 0.0 for c in feature.classes)


def test_a_file_of_toys_is_labelled_as_such(tmp_path: Path) -> None:
    from higgsbench.events.simulate import SimulationSettings, write_simulated

    found = explore(write_simulated(SimulationSettings(events=500, seed=1), tmp_path / "toys.csv.gz"))
    assert any("toy simulation" in note for note in found.notes)
