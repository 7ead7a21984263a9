"""The rules that choose one cut: robust against spikes, blind to the scale of scores and the order of events."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from higgsbench.ensemble import Truth, evaluate_row
from higgsbench.ensemble.cut import (
    BINS,
    CUT_RULES,
    MAX_BACKGROUND_ERROR,
    BinnedCurves,
    CutRule,
    best_cut,
    choose_bins,
    choose_cut,
    kernel_width,
)
from higgsbench.errors import ConfigError, MetricError
from higgsbench.metrics import ams, ams_scan, evaluation_weights

Arrays = tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]


def toy(n: int = 5000, seed: int = 0) -> Arrays:
    """Two Gaussians; the true AMS curve has one broad maximum."""
    rng = np.random.default_rng(seed)
    y = rng.random(n) < 0.35
    score = rng.normal(size=n) + 1.2 * y
    return y, score, evaluation_weights(y, np.ones(n), 700.0, 400_000.0)


def with_spike(seed: int = 0) -> Arrays:
    """The same, with forty signal events moved above all background."""
    y, score, w = toy(seed=seed)
    score[np.flatnonzero(y)[:40]] = 10.0 + np.arange(40)
    return y, score, w


@pytest.mark.parametrize("rule", ["smooth", "lower"])
@pytest.mark.parametrize("seed", range(4))
def test_robust_rules_do_not_fall_for_a_spike(rule: str, seed: int) -> None:
    y, score, w = with_spike(seed)
    fresh_y, fresh, fresh_w = toy(100_000, seed=99)
    raw, robust = best_cut(y, score, w, rule="max"), best_cut(y, score, w, rule=rule)
    assert raw.b == 0.0
    assert raw.fraction < 0.02
    assert robust.fraction > 0.05
    honest = [
        ams(fresh_w[fresh_y & (fresh >= c.threshold)].sum(), fresh_w[~fresh_y & (fresh >= c.threshold)].sum())
        for c in (raw, robust)
    ]
    assert honest[1] > 1.1 * honest[0]
    assert honest[1] > 0.9 * ams_scan(fresh_y, fresh, fresh_w).ams.max()


@pytest.mark.parametrize("rule", ["smooth", "lower"])
def test_robust_rules_trust_no_cut_with_an_uncertain_background(rule: str) -> None:
    y, score, w = with_spike()
    curve = ams_scan(y, score, w)
    at = int(np.flatnonzero(curve.threshold == choose_cut(curve, rule).threshold)[0])
    assert curve.b_relative_error[at] <= MAX_BACKGROUND_ERROR


def test_max_is_the_raw_maximum_and_lower_that_of_the_lower_bound_among_trusted_cuts() -> None:
    curve = ams_scan(*toy())
    cut = choose_cut(curve, "max")
    assert (cut.rule, cut.ams) == ("max", curve.ams.max())
    bound = np.where(curve.b_relative_error <= MAX_BACKGROUND_ERROR, curve.ams - curve.se, -np.inf)
    assert choose_cut(curve, "lower").threshold == curve.threshold[np.argmax(bound)]


def test_smooth_is_near_the_true_optimum_and_the_default() -> None:
    cut = best_cut(*toy(20_000))
    assert cut.rule == "smooth"
    curve = ams_scan(*toy(300_000, seed=8))
    assert np.interp(cut.fraction, curve.fraction, curve.ams) > 0.97 * curve.ams.max()


@pytest.mark.parametrize("rule", CUT_RULES)
def test_reported_numbers_belong_to_the_threshold(rule: str) -> None:
    y, score, w = toy(2000)
    score = np.round(score, 1)
    cut = best_cut(y, score, w, rule=rule)
    kept = score >= cut.threshold
    assert cut.threshold in score
    assert cut.fraction == pytest.approx(kept.mean())
    assert cut.s == pytest.approx(w[kept & y].sum())
    assert cut.b == pytest.approx(w[kept & ~y].sum())
    assert cut.ams == pytest.approx(ams(cut.s, cut.b))
    assert cut.se > 0.0


@pytest.mark.parametrize("rule", CUT_RULES)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(-4, 4), st.floats(0.1, 10.0)), min_size=1, max_size=30),
    st.randoms(use_true_random=False),
)
@settings(max_examples=40, derandomize=True)
def test_scale_and_order_do_not_matter(rule: str, events: list[tuple[bool, int, float]], random: object) -> None:
    y, integers, w = (np.array(column) for column in zip(*events, strict=True))
    score = integers.astype(float)
    cut = best_cut(y, score, w, rule=rule)
    transformed = best_cut(y, np.exp(score / 2.0), w, rule=rule)
    np.testing.assert_array_equal(score >= cut.threshold, np.exp(score / 2.0) >= transformed.threshold)
    order = np.random.default_rng(len(events)).permutation(y.size)
    shuffled = best_cut(y[order], score[order], w[order], rule=rule)
    if rule == "smooth":
        assert shuffled.threshold == cut.threshold
    else:  # sums in another order may differ in the last bit and turn an exact tie between two cuts
        assert shuffled.ams == pytest.approx(cut.ams, abs=1e-9 + 2 * (cut.se if rule == "lower" else 0.0))


@pytest.mark.parametrize("rule", CUT_RULES)
def test_file_sorted_by_label_gets_the_same_cut(rule: str) -> None:
    """Regression: inside tied scores the smooth rule followed the order of the file, signal first or last."""
    y, score, w = toy(3000, seed=2)
    score = np.round(score)
    signal_first, background_first = np.argsort(~y, kind="stable"), np.argsort(y, kind="stable")
    a, b, c = (best_cut(y[o], score[o], w[o], rule=rule) for o in (signal_first, background_first, np.arange(3000)))
    assert a.threshold == b.threshold == c.threshold
    assert a.ams == pytest.approx(b.ams)


@pytest.mark.parametrize("rule", CUT_RULES)
@pytest.mark.parametrize("label", [0, 1])
def test_one_event(rule: str, label: int) -> None:
    cut = best_cut([label], [-3.0], [2.0], rule=rule)
    assert (cut.threshold, cut.fraction) == (-3.0, 1.0)
    assert cut.ams == pytest.approx(ams(2.0 * label, 2.0 * (1 - label)))


@pytest.mark.parametrize("rule", CUT_RULES)
def test_an_infinite_significance_is_no_maximum(rule: str) -> None:
    """Without regularisation a cut without background has an infinite AMS, which says nothing."""
    y, score, w = with_spike()
    assert np.isfinite(best_cut(y, score, w, rule=rule, b_reg=0.0).ams)


@pytest.mark.parametrize("rule", CUT_RULES)
def test_negative_weights(rule: str) -> None:
    y, score, w = toy(2000)
    w[::10] *= -0.5
    cut = best_cut(y, score, w, rule=rule)
    assert cut.s >= 0.0
    assert cut.b >= 0.0
    with pytest.raises(MetricError, match="no cut has a defined AMS"):
        best_cut([1, 0], [1.0, 1.0], [1.0, -1.0], rule=rule)


@pytest.mark.parametrize("rule", CUT_RULES)
@given(st.integers(0, 2**32 - 1), st.integers(30, 700), st.sampled_from([0.0, 10.0]))
@settings(max_examples=15, derandomize=True)
def test_both_implementations_of_a_rule_choose_alike(rule: str, seed: int, shift: int, b_reg: float) -> None:
    """With one event per rank bin, the bins of the bootstrap are the cuts of the curve."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(BINS) < BINS // 3
    score = rng.permutation(BINS) + (shift + 0.5) * y  # without ties
    w = evaluation_weights(y, rng.gamma(3.0, size=BINS), 700.0, 4000.0)
    curve = ams_scan(y, score, w, b_reg)
    first = np.zeros((1, 2, BINS))
    first[0, curve.sorted_labels.astype(int), np.arange(BINS)] = curve.sorted_weights
    truth = Truth(y, w, np.zeros((1, BINS), dtype=np.int64), (700.0, 4000.0), b_reg, rule)
    in_bins = BinnedCurves(first, first**2, truth)
    at = int(choose_bins(in_bins, rule)[0])
    cut = choose_cut(curve, rule)
    if rule == "smooth":  # 1024 bins at event resolution, 250 in the bootstrap
        assert in_bins.trusted[0, at] or not in_bins.trusted.any()
        value = CUT_RULES[rule].on_events(curve)
        assert value[at] > 0.97 * value[curve.threshold >= cut.threshold][-1]
    else:
        assert curve.threshold[at] == cut.threshold


def test_a_rule_is_one_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record is all that evaluation and bootstrap need."""
    half = CutRule(
        "half", "Select half of the events.",
        on_events=lambda curve: -np.abs(curve.fraction - 0.5),
        in_bins=lambda curves: np.broadcast_to(-np.abs(np.arange(BINS) + 1 - BINS / 2), curves.ams.shape),
        trusted_only=False,
    )  # fmt: skip
    monkeypatch.setitem(CUT_RULES, "half", half)
    y, score, w = toy(600)
    truth = Truth(y, w, np.arange(600)[None] % 3, (700.0, 400_000.0), 10.0, "half")
    row = evaluate_row(score[None], truth)
    assert (row.cut.rule, row.cut.fraction) == ("half", 0.5)
    assert row.fraction == pytest.approx(0.5, abs=0.05)
    assert row.replicas.ams_cv.mean() == pytest.approx(row.value("ams"), rel=0.1)


def test_unknown_rule_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"cut.rule: 'best' is not one of max, smooth, lower"):
        best_cut([1, 0], [1.0, 0.0], [1.0, 1.0], rule="best")


def test_the_kernel_narrows_with_more_events() -> None:
    assert kernel_width(15_000) == pytest.approx(0.05)
    assert 0.1 >= kernel_width(1) > kernel_width(15_000) > kernel_width(10**7) >= 0.005
