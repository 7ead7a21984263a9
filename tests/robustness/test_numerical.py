"""Numbers at the edges: extreme weights, single events, folds of one class, equal and infinite scores."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import higgsbench
from higgsbench.ensemble import evaluate_row
from higgsbench.ensemble.blend import BLEND_METHODS, fit_blend
from higgsbench.ensemble.cut import CUT_RULES, Truth, best_cut
from higgsbench.errors import MetricError
from higgsbench.metrics import ams, ams_scan, evaluation_weights, roc_auc
from higgsbench.schema import N_B, N_S
from tests.runs.conftest import Notes

SIZES = st.floats(min_value=0.0, max_value=1.7e308)


@given(SIZES, SIZES, SIZES)
def test_ams_of_any_finite_numbers_is_a_number(s: float, b: float, b_reg: float) -> None:
    if not math.isinf(b + b_reg):
        assert ams(s, b, b_reg) >= 0.0


def test_ams_of_extreme_numbers() -> None:
    assert ams(1e308, 1e-308, 0.0) == pytest.approx(math.sqrt(2.0) * 1e154 * math.sqrt(616 * math.log(10) - 1.0))
    assert ams(1e-300, 1e300) == 0.0
    assert ams(1e-150, 1.0, 0.0) == pytest.approx(1e-150)
    assert ams(0.0, 0.0, 0.0) == 0.0
    assert ams(1.0, 0.0, 0.0) == math.inf
    with pytest.raises(MetricError, match="b must be finite"):
        ams(1.0, math.inf)


@pytest.mark.parametrize("scale", [1e-320, 1e-300, 1e-30, 1.0, 1e30, 1e300])
def test_evaluation_weights_do_not_depend_on_the_unit(scale: float) -> None:
    y = np.array([1, 0, 1, 0, 0])
    found = evaluation_weights(y, np.array([1.0, 2.0, 3.0, 4.0, 5.0]) * scale, N_S, N_B)
    assert np.isfinite(found).all()
    assert found[y == 1].sum() == pytest.approx(N_S)
    assert found[y == 0].sum() == pytest.approx(N_B)


def test_weights_of_all_sizes_at_once() -> None:
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, 400)
    w = 10.0 ** rng.uniform(-300, 300, 400)
    weight = evaluation_weights(y, w, N_S, N_B)
    assert weight.sum() == pytest.approx(N_S + N_B)
    score = rng.normal(size=400)
    curve = ams_scan(y, score, weight)
    assert np.isfinite(curve.ams).all()
    for rule in CUT_RULES:
        cut = best_cut(y, score, weight, rule=rule)
        assert math.isfinite(cut.ams)
        assert math.isfinite(cut.threshold)
    assert 0.0 <= roc_auc(y, score, weight).value <= 1.0


def truth(y: Any, fold: Any, rule: str = "smooth") -> Truth:
    y = np.asarray(y, dtype=np.bool_)
    weight = evaluation_weights(y, np.ones(y.size), N_S, N_B)
    return Truth(y, weight, np.atleast_2d(np.asarray(fold, dtype=np.int64)), (N_S, N_B), 10.0, rule)


@pytest.mark.parametrize("rule", CUT_RULES)
def test_equal_scores_have_one_cut_which_selects_all(rule: str) -> None:
    y = np.arange(40) % 4 == 0
    found = evaluate_row(np.zeros((1, 40)), truth(y, np.arange(40) % 5, rule))
    assert (found.fraction, found.cut.threshold) == (1.0, 0.0)
    assert found.value("ams") == pytest.approx(ams(N_S, N_B))
    assert found.value("auc") == pytest.approx(0.5)
    assert found.se("ams") == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("rule", CUT_RULES)
def test_infinite_scores_order_like_all_others(rule: str) -> None:
    rng = np.random.default_rng(3)
    y = rng.random(300) < 0.3
    score = rng.normal(size=300) + 2.0 * y
    wild = score.copy()
    wild[score > 2.5], wild[score < -1.5] = np.inf, -np.inf
    found = evaluate_row(wild[None, :], truth(y, np.arange(300) % 3, rule))
    assert 0.0 < found.value("ams") < math.inf
    assert math.isfinite(found.se("ams"))
    assert 0.5 < found.value("auc") <= 1.0
    tame = evaluate_row(np.clip(wild, -50, 50)[None, :], truth(y, np.arange(300) % 3, rule))
    assert (found.value("ams"), found.value("auc")) == (tame.value("ams"), tame.value("auc"))


@pytest.mark.parametrize("rule", CUT_RULES)
def test_folds_of_few_events(rule: str) -> None:
    """One event of a class in each fold; a fold without background, which adds signal only."""
    n = np.arange(60)
    y = n % 4 == 0
    no_background = np.where(y, n // 4 % 4, n % 3)
    for signal, fold in ((n < 5, n % 5), (y, no_background)):
        score = np.random.default_rng(1).normal(size=60) + 2.0 * signal
        found = evaluate_row(score[None, :], truth(signal, fold, rule))
        assert 0.0 < found.value("ams") < math.inf
        assert math.isfinite(found.se("ams"))


@pytest.mark.parametrize("method", BLEND_METHODS)
@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_blends_of_extreme_scores_are_numbers(method: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = np.arange(60) % 3 == 0
    F = rng.normal(size=(60, 3)) * 10.0 ** rng.uniform(-5, 5, 3)
    F[rng.random((60, 3)) < 0.1] = np.inf
    F[rng.random((60, 3)) < 0.1] = -np.inf
    F[:, 2] = rng.choice((F[0, 0], 0.0, np.inf))  # one member says the same of all events
    w = evaluation_weights(y, 10.0 ** rng.uniform(-30, 0, 60), N_S, N_B)
    blend = fit_blend(method, ("a", "b", "c"), F, y, w, (N_S, N_B))
    assert np.isfinite(blend.coefficients).all()
    assert not np.isnan(blend(F)).any()


def few(valid: Path, target: Path, signal: int, background: int, **columns: Any) -> Path:
    """Write a file of so many events of each class, perhaps with columns made constant."""
    frame = pl.read_csv(valid / "train.csv")
    parts = [frame.filter(pl.col("Label") == name).head(n) for name, n in (("s", signal), ("b", background))]
    pl.concat(parts).with_columns(**{name: pl.lit(value) for name, value in columns.items()}).write_csv(target)
    return target


def test_a_run_of_two_events_per_class_says_that_this_is_little(valid: Path, here: Path) -> None:
    data = few(valid, here / "few.csv", 2, 2)
    notes = Notes()
    found = higgsbench.run("c.yaml", data=data, output=here / "out", jobs=1, listener=notes)
    assert notes.lines[0] == (
        f"{data}: a fold holds only 1 signal event; below 20 the numbers and their errors say little "
        "(use more events or fewer folds)"
    )
    for row in found.rows:
        assert row["status"] == "failed" or math.isfinite(row["ams_cv"])
    assert higgsbench.Leaderboard.read(found.folder).render("markdown")


@pytest.mark.parametrize("weight", [1e-290, 1e29])
def test_a_run_does_not_depend_on_the_unit_of_the_weights(weight: float, valid: Path, here: Path) -> None:
    data = few(valid, here / "scaled.csv", 30, 60, Weight=weight)
    same = few(valid, here / "plain.csv", 30, 60, Weight=1.0)
    found, expected = (
        higgsbench.run("c.yaml", data=file, output=here / "out", jobs=1, only=["lightgbm"]).rows[0]
        for file in (data, same)
    )
    assert found["ams_cv"] == pytest.approx(expected["ams_cv"])
    assert found["auc"] == pytest.approx(expected["auc"])


def test_a_run_on_constant_features_selects_all_or_nothing_of_a_fold(valid: Path, here: Path) -> None:
    constant = {name: 1.0 for name in higgsbench.ATLAS_HIGGS.features if name != "PRI_jet_num"}
    data = few(valid, here / "constant.csv", 25, 60, **constant, PRI_jet_num=0)
    found = higgsbench.run("c.yaml", data=data, output=here / "out", jobs=1)
    for row in found.rows:
        assert row["status"] == "ok"
        # Each of the two folds has one score, its own model's.
        assert min(abs(row["fraction"] - part) for part in (0.0, 0.5, 1.0)) < 0.02
        assert row["auc"] == pytest.approx(0.5, abs=0.1)
