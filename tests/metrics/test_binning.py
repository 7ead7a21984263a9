"""Optimal bins against a search through all binnings."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from higgsbench.errors import MetricError
from higgsbench.metrics import evaluation_weights
from higgsbench.metrics.significance import BinningRules, bin_sums, combined_significance, optimal_edges


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
def test_impossible_rules_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(MetricError):
        BinningRules(**bad)  # type: ignore[arg-type]
