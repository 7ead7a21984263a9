from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from higgsbench.errors import MetricError
from higgsbench.metrics.comparisons import chi2_of_shapes, ks_distance, ks_p_value

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
