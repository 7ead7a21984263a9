"""The Asimov significance against published values, and optimal bins against a search through all binnings."""

from __future__ import annotations

from decimal import Decimal, localcontext
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from higgsbench.errors import MetricError
from higgsbench.metrics import ams, evaluation_weights
from higgsbench.metrics.significance import (
    BinningRules,
    asimov_significance,
    bin_sums,
    combined_significance,
    optimal_edges,
)

# n_on, n_off, tau and Z_PL of table 1 of R. Cousins, J. Linnemann, J. Tucker, Nucl. Instr. Meth. A 595 (2008) 480,
# physics/0702156: the profile likelihood of the same on/off model, b = n_off / tau and sigma_b = sqrt(n_off) / tau.
COUSINS = [
    (4, 5, 5.0, 1.95),
    (6, 18.78, 14.44, 2.82),
    (9, 17.83, 4.69, 1.99),
    (17, 40.11, 10.56, 4.57),
    (50, 55, 2.0, 3.02),
    (67, 15, 0.5, 3.04),
    (200, 10, 0.1, 2.38),
    (523, 2327, 5.99, 5.95),
    (498426, 493434, 1.0, 5.01),
    (2119449, 23650096, 11.21, 6.40),
]


@pytest.mark.parametrize(("on", "off", "tau", "z"), COUSINS)
def test_published_on_off_significances(on: float, off: float, tau: float, z: float) -> None:
    found = float(asimov_significance(on - off / tau, off / tau, np.sqrt(off) / tau))
    assert found == pytest.approx(z, abs=0.006)
    # 50 signal events over 100 +- 7 (K. Cranmer, G. Cowan, Fast Asimov Utils, 2014)
    assert float(asimov_significance(50, 100, 7)) == pytest.approx(3.72, abs=0.005)


def exact(s: float, b: float, sigma: float) -> float:
    """Equation (20) as printed, in 60 digits."""
    with localcontext(prec=60):
        n, c, v = Decimal(s) + Decimal(b), Decimal(b), Decimal(sigma) ** 2
        first = n * (n * (c + v) / (c * c + n * v)).ln()
        return float((2 * (first - c * c / v * (1 + v * Decimal(s) / (c * (c + v))).ln())).sqrt())


size = st.floats(1e-3, 1e6)


@given(size, size, st.floats(1e-4, 1e4))
@settings(max_examples=150, derandomize=True)
def test_equals_the_printed_formula(s: float, b: float, sigma: float) -> None:
    assert float(asimov_significance(s, b, sigma)) == pytest.approx(exact(s, b, sigma), rel=1e-11)


@pytest.mark.parametrize("s", [1e-9, 1e-4, 1.0, 300.0])
@pytest.mark.parametrize("b", [1e-6, 5.0, 1e5])
@pytest.mark.parametrize("sigma", [1e-12, 1e-5])
def test_a_known_background_is_the_limit(s: float, b: float, sigma: float) -> None:
    pure = ams(s, b, 0.0)
    assert float(asimov_significance(s, b)) == pytest.approx(pure, rel=1e-13)
    assert float(asimov_significance(s, b, sigma, relative=True)) == pytest.approx(pure, rel=1e-4)


@given(size, size, st.floats(0.0, 1e3), st.floats(1.01, 10.0))
@settings(max_examples=100, derandomize=True)
def test_signal_helps_and_background_or_uncertainty_hurts(s: float, b: float, sigma: float, more: float) -> None:
    z = float(asimov_significance(s, b, sigma))
    assert z > 0.0
    assert float(asimov_significance(s * more, b, sigma)) > z
    assert float(asimov_significance(s, b * more, sigma)) <= z * (1 + 1e-9) or sigma > 0.0
    assert float(asimov_significance(s, b, sigma * more)) <= z * (1 + 1e-12)


def test_empty_bins_are_defined() -> None:
    found = asimov_significance([0, 2, 2, 0], [0, 0, 0, 5], [0, 0, 3, 1])
    np.testing.assert_array_equal(found, [0.0, np.inf, 0.0, 0.0])
    assert np.isfinite(asimov_significance([1.0, 1e5], [1e-300, 1e-300], 0.0)).all(), "extremes do not overflow"


@pytest.mark.parametrize("bad", [(-1, 1, 0), (1, np.nan, 0), (1, 1, np.inf)])
def test_impossible_input_is_refused(bad: tuple[float, float, float]) -> None:
    with pytest.raises(MetricError, match="must be finite and not negative"):
        asimov_significance(*bad)


def test_bins_combine_in_quadrature() -> None:
    parts = asimov_significance([10, 5], [50, 8], [0.1, 0.1], relative=True)
    assert combined_significance([10, 5], [50, 8], 0.1, relative=True) == pytest.approx(np.hypot(*parts))


def toy(levels: int = 7, n: int = 4000) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(2)
    y = rng.random(n) < 0.3
    score = np.clip(np.round(1.5 * rng.normal(size=n) + y + levels / 2 - 1), 0, levels - 1)
    return y, score, evaluation_weights(y, rng.gamma(2.0, size=n), 100.0, 5000.0)


@pytest.mark.parametrize("sigma_b", [0.0, 0.05])
@pytest.mark.parametrize("rules", [(1.0, 5.0), (60.0, 1.0), (1.0, 120.0)])
def test_dynamic_programme_equals_search_through_all_binnings(rules: tuple[float, float], sigma_b: float) -> None:
    y, score, w = toy()
    limits = BinningRules(9, *rules, sigma_b)
    values = np.unique(score)

    def worth(edges: NDArray[np.float64]) -> float:
        sums = bin_sums(y, np.searchsorted(edges, score, side="right") - 1, w, edges.size)
        enough = (sums.b >= rules[0]).all() and (sums.b**2 >= rules[1] * sums.b_variance).all()
        return combined_significance(sums.s, sums.b, sigma_b, relative=True) if enough else -np.inf

    found = optimal_edges(y, score, w, limits)
    for k, edges in enumerate(found, start=1):
        every = [np.array([-np.inf, *chosen]) for chosen in combinations(values[1:], k - 1)]
        assert worth(edges) == pytest.approx(max(worth(e) for e in every), rel=1e-12)
    k = len(found) + 1
    assert k > values.size or all(worth(np.array([-np.inf, *c])) == -np.inf for c in combinations(values[1:], k - 1)), (
        "more bins would have been allowed"
    )


def test_more_bins_are_never_worse_and_a_transform_changes_nothing() -> None:
    y, score, w = toy()
    found = optimal_edges(y, score, w, BinningRules(6, 1.0, 5.0))
    shifted = optimal_edges(y, np.exp(score), w, BinningRules(6, 1.0, 5.0))
    z = []
    for edges, other in zip(found, shifted, strict=True):
        sums = bin_sums(y, np.searchsorted(edges, score, side="right") - 1, w, edges.size)
        z.append(combined_significance(sums.s, sums.b))
        np.testing.assert_allclose(np.exp(edges), np.where(np.isneginf(other), 0.0, other))
    assert z == sorted(z)


def test_too_few_events_are_refused() -> None:
    y, score, w = toy()
    with pytest.raises(MetricError, match="too few for one bin of 1e\\+06 expected"):
        optimal_edges(y, score, w, BinningRules(5, 1e6, 1.0))
    with pytest.raises(MetricError, match="needs signal"):
        optimal_edges(np.zeros(3), np.arange(3), np.ones(3), BinningRules())


@pytest.mark.parametrize("bad", [{"max_bins": 0}, {"min_background": -1.0}, {"sigma_b": np.inf}])
def test_impossible_rules_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(MetricError):
        BinningRules(**bad)
