"""Adjusted p-values, groups, the corrected t-test, and the agreement of samples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from higgsbench.errors import MetricError
from higgsbench.metrics.comparisons import (
    chi2_of_shapes,
    corrected_resampled_t,
    difference_of,
    effective_degrees,
    holm,
    indistinct_groups,
    ks_distance,
    ks_p_value,
)
from higgsbench.metrics.estimates import poisson_counts


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


def test_holm_refuses_what_is_no_probability() -> None:
    with pytest.raises(MetricError):
        holm([0.1, 1.2])


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
    for bad in ([0.1], [0.1, np.nan]):
        with pytest.raises(MetricError):
            corrected_resampled_t(bad, 0.25)


def test_differences() -> None:
    assert difference_of(0.0, 0.0).p_value == 1.0
    assert difference_of(0.1, 0.0).p_value == 0.0
    assert difference_of(1.96, 1.0).p_value == pytest.approx(0.05, abs=1e-4)
    assert difference_of(1.96, 1.0, 5.0).p_value > 0.1
    assert np.isnan(difference_of(np.inf, 1.0).p_value)
    with pytest.raises(MetricError):
        difference_of(1.0, -1.0)


def test_effective_degrees_are_those_of_the_variance() -> None:
    """The scatter of a sum of squares over a Poisson number of events is that of a chi-square of these degrees."""
    assert effective_degrees(np.full(40, -0.3)) == pytest.approx(80.0)
    assert effective_degrees(np.zeros(3)) == np.inf
    rng = np.random.default_rng(1)
    influence = rng.normal(size=50)
    variances = poisson_counts(rng, (20_000, 50)) @ influence**2
    relative = float(np.var(variances) / np.mean(variances) ** 2)
    assert relative == pytest.approx(2.0 / effective_degrees(influence), rel=0.05)


def test_poisson_counts_follow_their_law() -> None:
    counts = poisson_counts(np.random.default_rng(3), (400_000,))
    share = np.bincount(counts, minlength=8) / counts.size
    np.testing.assert_allclose(share[:5], stats.poisson.pmf(range(5), 1.0), atol=0.003)
    assert counts.mean() == pytest.approx(1.0, abs=0.008)
    assert counts.var() == pytest.approx(1.0, abs=0.012)


def test_poisson_counts_in_parts_are_those_of_one_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = poisson_counts(np.random.default_rng(3), (7, 1001))
    monkeypatch.setattr("higgsbench.metrics.estimates._AT_ONCE", 256)
    assert np.array_equal(poisson_counts(np.random.default_rng(3), (7, 1001)), whole)


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
