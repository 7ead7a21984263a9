"""AUC, log-loss, AMS, their errors and comparisons against slow definitions, other libraries and the bootstrap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score

from higgsbench.compare.measure import (
    corrected_resampled_t,
    difference_of,
    effective_degrees,
    holm,
    indistinct_groups,
)
from higgsbench.errors import MetricError
from higgsbench.metrics import (
    Estimate,
    ams,
    ams_estimate,
    evaluation_weights,
    log_loss,
    mean_estimate,
    paired_difference,
    roc_auc,
)
from higgsbench.metrics.estimates import chi2_of_shapes, ks_distance, ks_p_value

EVENTS = st.lists(
    st.tuples(st.booleans(), st.one_of(st.integers(-3, 3).map(float), st.floats(-30, 30)), st.floats(1e-3, 1e3)),
    min_size=2,
    max_size=40,
)
SOME = settings(max_examples=80, derandomize=True)


def arrays(events: list[tuple[bool, float, float]]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    y, score, w = (np.array(column) for column in zip(*events, strict=True))
    assume(y.any() and not y.all())
    return y, score, w


@given(EVENTS)
@SOME
def test_auc_equals_the_count_of_pairs_and_scikit_learn(events: list[tuple[bool, float, float]]) -> None:
    y, score, w = arrays(events)
    pairs = total = 0.0
    for i in np.flatnonzero(y):
        for j in np.flatnonzero(~y):
            pair = float(w[i] * w[j])
            total += pair
            pairs += pair * (1.0 if score[i] > score[j] else 0.5 if score[i] == score[j] else 0.0)
    value = roc_auc(y, score, w).value
    assert value == pytest.approx(pairs / total, rel=1e-9, abs=1e-12)
    assert value == pytest.approx(roc_auc_score(y, score, sample_weight=w), rel=1e-7, abs=1e-9)


@given(EVENTS)
@SOME
def test_log_loss_equals_scikit_learn(events: list[tuple[bool, float, float]]) -> None:
    y, score, w = arrays(events)
    p = 1.0 / (1.0 + np.exp(-score))
    expected = sklearn_log_loss(y, np.column_stack([1.0 - p, p]), sample_weight=w, labels=[False, True])
    assert log_loss(y, score, w).value == pytest.approx(expected, rel=1e-2 if np.abs(score).max() > 20 else 1e-6)


@given(EVENTS)
@SOME
def test_influence_sums_to_zero_within_each_class(events: list[tuple[bool, float, float]]) -> None:
    """Class totals are held fixed, so that moving all weights of a class changes nothing."""
    y, score, w = arrays(events)
    for estimate in (roc_auc(y, score, w), log_loss(y, score, w)):
        assert np.sum(estimate.influence) == pytest.approx(0.0, abs=1e-9 * max(1.0, abs(estimate.value)))
    signal = roc_auc(y, score, w).influence[y]
    assert np.sum(signal) == pytest.approx(0.0, abs=1e-9)


def toy(n: int = 6000, seed: int = 5) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    y = rng.random(n) < 0.35
    score = rng.normal(size=n) + 1.6 * y
    return y, score, evaluation_weights(y, rng.gamma(2.0, size=n), 700.0, 400_000.0)


def bootstrap(y: Any, w: Any, replicas: int, seed: int, value: Callable[[Any], Any]) -> NDArray[np.float64]:
    """Return values from the weights of resampled events, the classes rescaled to their totals."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(replicas):
        drawn = w * rng.poisson(1.0, y.size)
        out.append(value(drawn * np.where(y, w[y].sum() / drawn[y].sum(), w[~y].sum() / drawn[~y].sum())))
    return np.array(out)


@pytest.mark.parametrize("metric", [roc_auc, log_loss])
def test_standard_error_equals_the_bootstrap(metric: Any) -> None:
    y, score, w = toy(1500)
    replicas = bootstrap(y, w, 400, 4, lambda v: metric(y, score, v).value)
    assert metric(y, score, w).se == pytest.approx(float(replicas.std()), rel=0.12)


def test_infinite_and_large_scores() -> None:
    assert roc_auc([1, 0, 0], [np.inf, -np.inf, 0.0], [1, 1, 1]).value == 1.0
    right = log_loss([1, 0], [np.inf, -np.inf], [1, 1])
    assert (right.value, right.se) == (0.0, 0.0)
    # Regression: the error of an infinite loss was NaN.
    wrong = log_loss([1, 0, 0], [-np.inf, 0.0, 1.0], [1, 1, 1])
    assert (wrong.value, wrong.se) == (np.inf, np.inf)
    assert mean_estimate([wrong, wrong]).se == np.inf
    # Regression: a weight of zero times an infinite loss was NaN.
    assert log_loss([1, 0, 1], [-np.inf, 0.0, 0.0], [0.0, 1.0, 1.0]).value == pytest.approx(np.log(2))
    # Large ones do not overflow.
    assert log_loss([1, 0], [-1e4, 1e4], [1, 1]).value == pytest.approx(1e4)
    assert log_loss([1, 0], [1e4, -1e4], [1, 1]).value == 0.0


@pytest.mark.parametrize(("y", "w"), [([1, 1], [1, 1]), ([0, 0], [1, 1]), ([1, 0], [0, 1]), ([1, 0], [1, 0])])
def test_auc_needs_both_classes(y: list[int], w: list[float]) -> None:
    with pytest.raises(MetricError, match="signal and background"):
        roc_auc(y, [1.0, 2.0], w)
    with pytest.raises(MetricError, match="positive sum"):
        log_loss([1, 0], [1.0, 2.0], [0.0, 0.0])


@pytest.mark.parametrize("threshold", [-0.5, 1.0, 2.0])
def test_delta_method_equals_bootstrap(threshold: float) -> None:
    y, score, w = toy()
    kept = score >= threshold
    estimate, s, b = ams_estimate(y, kept, w)
    assert estimate.value == ams(s, b)
    replicas = bootstrap(y, w, 500, 1, lambda v: ams(v[kept & y].sum(), v[kept & ~y].sum()))
    assert estimate.se == pytest.approx(float(replicas.std()), rel=0.12)
    assert abs(replicas.mean() - estimate.value) < estimate.se


def test_paired_difference_equals_paired_bootstrap() -> None:
    y, score, w = toy()
    selections = (score >= 1.5, score + 0.3 * np.random.default_rng(9).normal(size=y.size) >= 1.5)
    a, b = (ams_estimate(y, kept, w)[0] for kept in selections)
    difference, se = paired_difference(a, b)
    replicas = bootstrap(y, w, 500, 2, lambda v: [ams(v[kept & y].sum(), v[kept & ~y].sum()) for kept in selections])
    assert difference == pytest.approx(a.value - b.value)
    assert se == pytest.approx(float((replicas[:, 0] - replicas[:, 1]).std()), rel=0.12)
    assert se < 0.8 * float(np.hypot(a.se, b.se)), "pairing removes what both share"


def test_differences_of_estimates() -> None:
    a, endless = Estimate(1.0, np.array([3.0, 4.0, 0.0])), Estimate(np.inf, np.full(2, np.inf))
    assert (a.se, paired_difference(a, a)) == (5.0, (0.0, 0.0))
    assert np.isnan(paired_difference(endless, endless)).all(), "unknown, without a warning"
    with pytest.raises(MetricError, match="same events: 3 against 2"):
        paired_difference(a, endless)


def test_repeats_do_not_shrink_the_error_as_if_independent() -> None:
    a = Estimate(1.0, np.array([0.3, -0.4]))
    both = mean_estimate([a, Estimate(2.0, a.influence)])
    assert both.value == 1.5
    assert both.se == pytest.approx(a.se)
    # Regression: it was NaN with a warning.
    with pytest.raises(MetricError, match="no estimates"):
        mean_estimate([])


def test_selections_of_everything_nothing_and_one_class() -> None:
    y, _, w = toy(500)
    assert ams_estimate(y, np.ones(y.size, dtype=bool), w)[0].se == pytest.approx(0.0, abs=1e-12)
    for keep in (np.zeros(y.size, dtype=bool), ~y):
        estimate, s, _ = ams_estimate(y, keep, w)
        assert (estimate.value, s) == (0.0, 0.0)
    assert ams_estimate(y, y, w, 0.0)[0].value == np.inf


@pytest.mark.parametrize(
    "selection", [np.ones((4, 1), bool), np.ones(2, bool), np.ones((1, 4), bool), np.ones((), bool), [0.3, -2.0, 1, 0]]
)
def test_estimate_refuses_what_is_not_a_selection(selection: Any) -> None:
    """Regression: a wrong shape broadcast or failed as an index; any non-zero score counted as selected."""
    with pytest.raises(MetricError, match="selected must hold 4 values 0 or 1"):
        ams_estimate([1, 0, 1, 0], selection, [1, 1, 1, 1])


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.5, np.nan, 0.6]), [1.0, np.nan, 1.0])


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=12))
@settings(max_examples=80, derandomize=True)
def test_holm_rejects_as_the_step_down_procedure(p: list[float]) -> None:
    adjusted = holm(p)
    rejected = np.zeros(len(p), dtype=bool)
    for step, at in enumerate(np.argsort(p, kind="stable")):
        if p[at] * (len(p) - step) > 0.05:
            break
        rejected[at] = True
    np.testing.assert_array_equal(adjusted <= 0.05, rejected)
    assert (adjusted >= np.array(p)).all()


def test_groups_are_maximal_runs_and_may_overlap() -> None:
    apart = np.zeros((4, 4), dtype=bool)
    apart[0, 2] = apart[2, 0] = apart[0, 3] = apart[3, 0] = apart[1, 3] = apart[3, 1] = True
    assert indistinct_groups(apart) == ((0, 1), (1, 2), (2, 3))
    assert indistinct_groups(np.zeros((2, 2), dtype=bool)) == ((0, 1),)
    assert indistinct_groups(~np.eye(2, dtype=bool)) == ()


def test_corrected_t_is_wider_than_the_plain_one() -> None:
    d = np.array([0.3, 0.1, 0.2, 0.4, -0.1])
    found = corrected_resampled_t(d, 0.25)
    plain = stats.ttest_1samp(d, 0.0)
    assert found.value == pytest.approx(d.mean())
    assert found.value / found.se == pytest.approx(plain.statistic / np.sqrt(1 + 5 * 0.25))
    assert found.p_value > plain.pvalue


def test_differences() -> None:
    assert difference_of(0.0, 0.0).p_value == 1.0
    assert difference_of(0.1, 0.0).p_value == 0.0
    assert difference_of(1.96, 1.0).p_value == pytest.approx(0.05, abs=1e-4)
    assert difference_of(1.96, 1.0, 5.0).p_value > 0.1
    assert np.isnan(difference_of(np.inf, 1.0).p_value)


def test_effective_degrees_are_those_of_the_variance() -> None:
    """The scatter of a sum of squares over a Poisson number of events is that of a chi-square of these degrees."""
    assert effective_degrees(np.full(40, -0.3)) == pytest.approx(80.0)
    assert effective_degrees(np.zeros(3)) == np.inf
    rng = np.random.default_rng(1)
    influence = rng.normal(size=50)
    variances = rng.poisson(1.0, (20_000, 50)) @ influence**2
    relative = float(np.var(variances) / np.mean(variances) ** 2)
    assert relative == pytest.approx(2.0 / effective_degrees(influence), rel=0.05)


SAMPLE = st.lists(st.tuples(st.integers(-5, 5), st.floats(0.1, 10.0)), min_size=1, max_size=30)


@given(SAMPLE, SAMPLE)
def test_ks_is_the_largest_distance_of_the_cumulative_sums(
    first: list[tuple[int, float]], second: list[tuple[int, float]]
) -> None:
    (x, wx), (y, wy) = (np.array(part, dtype=float).T for part in (first, second))
    plain = max(abs(wx[x <= t].sum() / wx.sum() - wy[y <= t].sum() / wy.sum()) for t in range(-5, 6))
    assert ks_distance(x, wx, y, wy) == pytest.approx(plain, abs=1e-12)
    assert ks_distance(y, wy, x, wx) == pytest.approx(plain, abs=1e-12)
    assert ks_distance(x, wx, x, 3.0 * wx) == pytest.approx(0.0, abs=1e-12)


def test_unit_weights_give_the_usual_test() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=400), rng.normal(0.15, 1.0, size=300)
    usual = stats.ks_2samp(x, y, method="asymp")
    distance = ks_distance(x, np.ones(400), y, np.ones(300))
    assert distance == pytest.approx(usual.statistic)
    assert ks_p_value(distance, 400, 300) == pytest.approx(usual.pvalue, rel=0.15)


def test_p_values_of_equal_shapes_are_even() -> None:
    rng = np.random.default_rng(2)
    edges = np.linspace(-2, 2, 13)
    values = []
    for _ in range(300):
        parts = []
        for n in (2000, 1500):
            x, w = np.clip(rng.normal(size=n), -1.99, 1.99), rng.uniform(0.5, 1.5, n)
            parts += [np.histogram(x, edges, weights=w)[0], np.histogram(x, edges, weights=w**2)[0]]
        chi2, freedom, p = chi2_of_shapes(*parts)
        assert freedom == 11
        assert p == pytest.approx(stats.chi2.sf(chi2, freedom))
        values.append(p)
    assert stats.kstest(values, "uniform").pvalue > 0.01


def test_empty_bins_do_not_count() -> None:
    a, b = np.array([5.0, 0.0, 3.0]), np.array([4.0, 0.0, 6.0])
    assert chi2_of_shapes(a, a, b, b)[1] == 1
    assert chi2_of_shapes(a[:1], a[:1], b[:1], b[:1]) == (0.0, 0, 1.0)


def test_nothing_to_compare() -> None:
    zero, one = np.zeros(2), np.ones(2)
    with pytest.raises(MetricError, match="positive sums"):
        ks_distance(one, zero, one, one)
    with pytest.raises(MetricError, match="positive sums"):
        chi2_of_shapes(zero, zero, one, one)
