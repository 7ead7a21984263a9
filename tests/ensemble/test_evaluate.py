"""The numbers of a row against plain reimplementations, and the fast sums of the bootstrap against slow ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from higgsbench import ensemble as bootstrap
from higgsbench.ensemble import (
    Replicas,
    Truth,
    bootstrap_rows,
    evaluate_held_out,
    evaluate_row,
    paired_error,
    poisson_counts,
)
from higgsbench.ensemble.cut import CUT_RULES, choose_cut, cross_validated_selection
from higgsbench.metrics import ams, ams_scan, evaluation_weights, log_loss, roc_auc
from higgsbench.schema import B_REG, N_B, N_S
from higgsbench.validation import fold_assignments

TOTALS = (N_S, N_B)


def truth_of(n: int, rule: str = "smooth", repeats: int = 1, folds: int = 3, seed: int = 0) -> Truth:
    rng = np.random.default_rng(seed)
    y = rng.random(n) < 0.35
    weight = evaluation_weights(y, rng.gamma(3.0, size=n), *TOTALS)
    return Truth(y, weight, fold_assignments(y, None, folds, repeats, 1), TOTALS, B_REG, rule)


def scores_of(truth: Truth, repeats: int = 1, strength: float = 2.0) -> NDArray[np.float64]:
    rng = np.random.default_rng(7)
    base = rng.normal(size=truth.y.size) + strength * truth.y
    noise: NDArray[np.float64] = 0.2 * rng.normal(size=(repeats, truth.y.size))
    return base + noise


def bootstrap_row(scores: NDArray[np.float64], truth: Truth, replicas: int) -> Replicas:
    return bootstrap_rows([(scores, truth)], replicas)[0]


def plain_ams_cv(score: NDArray[np.float64], truth: Truth, events: NDArray[np.int64]) -> float:
    """Choose each fold's cut on the other folds, apply it, pool at the reference totals."""
    s = b = 0.0
    fold, y, weight, score = truth.fold[0][events], truth.y[events], truth.weight[events], score[events]
    for k in range(fold.max() + 1):
        rest = fold != k
        w = evaluation_weights(y[rest], weight[rest], *TOTALS)
        t = choose_cut(ams_scan(y[rest], score[rest], w), truth.rule).threshold
        kept = (fold == k) & (score >= t)
        s += float(weight[kept & y].sum())
        b += float(weight[kept & ~y].sum())
    return ams(s * N_S / float(weight[y].sum()), b * N_B / float(weight[~y].sum()))


@pytest.mark.parametrize("rule", CUT_RULES)
def test_ams_cv_is_what_its_definition_says(rule: str) -> None:
    truth = truth_of(1500, rule)
    scores = scores_of(truth)
    row = evaluate_row(scores, truth)
    assert row.value("ams") == pytest.approx(plain_ams_cv(scores[0], truth, np.arange(1500)), rel=1e-12)
    assert row.value("ams") == pytest.approx(ams(row.s, row.b), rel=1e-12)
    assert row.oof_max == ams_scan(truth.y, scores[0], truth.weight).ams.max()
    assert row.value("auc") == roc_auc(truth.y, scores[0], truth.weight).value
    assert row.value("log_loss") == log_loss(truth.y, scores[0], truth.weight).value
    assert row.cut.rule == rule
    assert row.se("ams") == pytest.approx(float(np.std(row.replicas.ams_cv, ddof=1)))
    assert row.oof_max >= row.value("ams")


@pytest.mark.parametrize("rule", CUT_RULES)
def test_a_fold_is_cut_without_its_own_labels(rule: str) -> None:
    truth = truth_of(1500, rule)
    score = scores_of(truth)[0]
    before = cross_validated_selection(score, truth, 0)
    own = truth.fold[0] == 1
    flipped = replace(truth, y=np.where(own, ~truth.y, truth.y))
    np.testing.assert_array_equal(cross_validated_selection(score, flipped, 0)[own], before[own])


@pytest.mark.parametrize("rule", CUT_RULES)
def test_bootstrap_equals_a_plain_one_that_chooses_cuts_anew(rule: str) -> None:
    truth = truth_of(3000, rule)
    scores = scores_of(truth)
    fast = bootstrap_row(scores, truth, 150)
    rng = np.random.default_rng(3)
    draws = [np.repeat(np.arange(3000), rng.poisson(1.0, 3000)) for _ in range(120)]
    plain = np.array([plain_ams_cv(scores[0], truth, events) for events in draws])
    # Quantiles, because the replicas of the `max` rule have tails in which a standard deviation of 150 is chance.
    low, high = np.quantile(fast.ams_cv, [0.16, 0.84])
    assert high - low == pytest.approx(float(np.subtract(*np.quantile(plain, [0.84, 0.16]))), rel=0.35)
    assert abs(fast.ams_cv.mean() - plain.mean()) < 0.6 * plain.std()
    assert float(np.std(fast.values["auc"])) == pytest.approx(roc_auc(truth.y, scores[0], truth.weight).se, rel=0.2)
    assert fast.values["auc"].mean() == pytest.approx(roc_auc(truth.y, scores[0], truth.weight).value, abs=2e-3)


def test_bootstrap_pairs_rows_on_the_same_events() -> None:
    truth = truth_of(3000)
    scores = scores_of(truth)
    a = bootstrap_row(scores, truth, 60)
    np.testing.assert_array_equal(a.ams_cv, bootstrap_row(scores, truth, 60).ams_cv)
    b = bootstrap_row(scores + 0.05 * scores_of(truth, strength=0.0), truth, 60)
    assert np.std(a.ams_cv - b.ams_cv) < 0.7 * np.hypot(np.std(a.ams_cv), np.std(b.ams_cv))
    assert np.std(a.values["auc"] - b.values["auc"]) < 0.5 * np.hypot(np.std(a.values["auc"]), np.std(b.values["auc"]))


def test_what_a_difference_counts_twice_is_taken_off() -> None:
    """At the cuts of other replicas, a replica's events vary by their own bumps and by those of the sample."""
    truth = truth_of(3000)
    base = scores_of(truth)
    a, b = (bootstrap_row(base + 0.3 * np.random.default_rng(k).normal(size=base.shape), truth, 100) for k in (1, 2))
    whole = float(np.std(a.ams_cv - b.ams_cv, ddof=1))
    sample, *others = a.at_others - b.at_others
    twice = float(np.mean([np.var(column, ddof=1) for column in np.transpose(others)]) - np.var(sample, ddof=1))
    assert 0.0 < twice < 0.5 * whole**2
    assert paired_error(a, b) == pytest.approx(np.sqrt(whole**2 - twice))
    assert paired_error(a, b) == paired_error(b, a) < whole
    assert paired_error(a, a) == 0.0
    without = replace(a, at_others=a.at_others[:1])  # as in runs of earlier versions
    assert paired_error(without, b) == paired_error(b, without) == pytest.approx(whole)
    far = np.vstack([np.zeros(100), np.full(100, 9.0), np.zeros(100)])
    assert paired_error(replace(a, at_others=far), b) == pytest.approx(whole / np.sqrt(2.0))
    steady = np.vstack([9.0 * np.arange(100), np.zeros((2, 100))])
    assert paired_error(replace(a, at_others=steady), b) == pytest.approx(whole)


def test_cuts_of_other_replicas_are_applied_as_their_own() -> None:
    truth = truth_of(900)
    found = bootstrap_row(scores_of(truth), truth, 7)
    assert found.at_others.shape == (7, 7)
    assert np.isfinite(found.at_others).all()
    assert bootstrap_row(scores_of(truth), truth, 200).at_others.shape == (9, 200)
    assert bootstrap_row(scores_of(truth), truth, 1).at_others.shape == (1, 1)  # too few to have others


def test_bootstrap_does_not_depend_on_the_scale_of_scores() -> None:
    truth = truth_of(1000)
    scores = np.round(scores_of(truth), 1)
    np.testing.assert_array_equal(
        bootstrap_row(scores, truth, 20).ams_cv, bootstrap_row(np.exp(scores), truth, 20).ams_cv
    )


@pytest.mark.parametrize("rule", CUT_RULES)
def test_bootstrap_without_regularisation_stays_finite(rule: str) -> None:
    """Regression: a bin without background has an infinite AMS if b_reg = 0; `choose_cut` passes over it."""
    truth = replace(truth_of(600, rule), b_reg=0.0)
    scores = scores_of(truth)
    scores[0, np.flatnonzero(truth.y)[:9]] = 20.0
    assert np.isfinite(bootstrap_row(scores, truth, 20).ams_cv).all()


@pytest.mark.parametrize(("rule", "tolerance"), [("smooth", 0.12), ("lower", 0.25), ("max", 0.6)])
def test_a_random_score_is_worth_no_more_than_selecting_everything(rule: str, tolerance: float) -> None:
    truth = truth_of(2500, rule, folds=5)
    everything = ams(*TOTALS)
    found = [evaluate_row(np.random.default_rng(seed).normal(size=(1, 2500)), truth).value("ams") for seed in range(2)]
    assert max(found) < everything + 0.2
    assert np.mean(found) == pytest.approx(everything, abs=tolerance)


def test_repeats_are_averaged() -> None:
    truth = truth_of(600, repeats=2)
    scores = scores_of(truth, repeats=2)
    both = evaluate_row(scores, truth)
    one = [evaluate_row(scores[[r]], replace(truth, fold=truth.fold[[r]])) for r in (0, 1)]
    for name in ("ams_cv", "s", "b", "fraction", "ams_oof_max", "auc", "log_loss"):
        assert both.record()[name] == pytest.approx(np.mean([r.record()[name] for r in one]))
    assert both.cut.threshold == pytest.approx(np.mean([r.cut.threshold for r in one]))


def test_held_out_events_meet_the_frozen_cut_at_the_reference_totals() -> None:
    truth = truth_of(800)
    score = scores_of(truth)[0]
    raw = truth.weight * np.where(truth.y, 0.1, 0.3)  # as stored: some other normalisation
    found, auc = evaluate_held_out(truth.y, raw, score, 1.5, TOTALS, B_REG)
    kept = score >= 1.5
    assert found.value == pytest.approx(ams(truth.weight[kept & truth.y].sum(), truth.weight[kept & ~truth.y].sum()))
    assert found.se > 0.0
    assert auc.value == pytest.approx(roc_auc(truth.y, score, raw).value)


def test_sums_of_many_replicas_are_histograms() -> None:
    rng = np.random.default_rng(0)
    n, cells, replicas = 700, 40, 9
    cell, weight = rng.integers(0, cells - 3, n), rng.normal(1.0, 1.0, n)
    counts = poisson_counts(rng, (replicas, n))
    fast = bootstrap._moments(cell, weight, cells) @ counts.T.astype(np.float64)
    for index, count in enumerate(counts):
        np.testing.assert_allclose(fast[:cells, index], np.bincount(cell, weight * count, cells), rtol=1e-12)
        np.testing.assert_allclose(fast[cells:, index], np.bincount(cell, weight**2 * count, cells), rtol=1e-12)


def test_replicas_do_not_depend_on_how_much_is_done_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = truth_of(900)
    rows = [(scores_of(truth, strength=strength), truth) for strength in (1.0, 1.5, 2.0)]
    together = bootstrap_rows(rows, 60)
    monkeypatch.setattr(bootstrap, "_REPLICAS_AT_ONCE", 7)
    for (scores, _), found in zip(rows, together, strict=True):
        alone = bootstrap_row(scores, truth, 60)
        for key in ("ams_cv", "auc"):
            np.testing.assert_array_equal(found.values[key], alone.values[key])
    monkeypatch.setattr(bootstrap, "_EVENTS_AT_ONCE", 100)
    np.testing.assert_allclose(bootstrap_row(*rows[2], 60).values["auc"], together[2].values["auc"], rtol=1e-12)


def test_poisson_counts_follow_their_law() -> None:
    counts = poisson_counts(np.random.default_rng(3), (400_000,))
    share = np.bincount(counts, minlength=8) / counts.size
    np.testing.assert_allclose(share[:5], stats.poisson.pmf(range(5), 1.0), atol=0.003)
    assert counts.mean() == pytest.approx(1.0, abs=0.008)
    assert counts.var() == pytest.approx(1.0, abs=0.012)


def test_poisson_counts_in_parts_are_those_of_one_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = poisson_counts(np.random.default_rng(3), (7, 1001))
    monkeypatch.setattr("higgsbench.ensemble._DRAWN_AT_ONCE", 256)
    assert np.array_equal(poisson_counts(np.random.default_rng(3), (7, 1001)), whole)
