"""Standard errors of the AMS: delta method against bootstrap, pairing, averaging."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from higgsbench.errors import MetricError
from higgsbench.metrics import (
    Estimate,
    ams,
    ams_estimate,
    evaluation_weights,
    mean_estimate,
    paired_difference,
)


def toy(n: int = 6000, seed: int = 5) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    y = rng.random(n) < 0.35
    score = rng.normal(size=n) + 1.6 * y
    return y, score, evaluation_weights(y, rng.gamma(2.0, size=n), 700.0, 400_000.0)


def plain_bootstrap(y: Any, selections: Any, w: Any, replicas: int, seed: int) -> NDArray[np.float64]:
    """AMS (replicas, m) of selections (n, m) on resampled events, the classes rescaled to their totals."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(replicas):
        drawn = w * rng.poisson(1.0, y.size)
        scale = np.where(y, w[y].sum() / drawn[y].sum(), w[~y].sum() / drawn[~y].sum())
        weights = (drawn * scale)[:, None] * selections
        out.append(ams(weights[y].sum(axis=0), weights[~y].sum(axis=0)))
    return np.array(out)


@pytest.mark.parametrize("threshold", [-0.5, 1.0, 2.0])
def test_delta_method_equals_bootstrap(threshold: float) -> None:
    y, score, w = toy()
    estimate, s, b = ams_estimate(y, score >= threshold, w)
    assert estimate.value == ams(s, b)
    replicas = plain_bootstrap(y, (score >= threshold)[:, None], w, 500, 1)
    assert estimate.se == pytest.approx(float(replicas.std()), rel=0.12)
    assert abs(replicas.mean() - estimate.value) < estimate.se


def test_paired_difference_equals_paired_bootstrap() -> None:
    y, score, w = toy()
    other = score + 0.3 * np.random.default_rng(9).normal(size=y.size)
    selections = np.column_stack([score >= 1.5, other >= 1.5])
    a, b = (ams_estimate(y, selections[:, i], w)[0] for i in (0, 1))
    difference, se = paired_difference(a, b)
    replicas = plain_bootstrap(y, selections, w, 500, 2)
    assert difference == pytest.approx(a.value - b.value)
    assert se == pytest.approx(float((replicas[:, 0] - replicas[:, 1]).std()), rel=0.12)
    assert se < 0.8 * float(np.hypot(a.se, b.se)), "pairing removes what both share"


def test_a_difference_to_itself_is_zero_without_error() -> None:
    y, score, w = toy(500)
    estimate = ams_estimate(y, score > 0, w)[0]
    assert paired_difference(estimate, estimate) == (0.0, 0.0)


def test_a_difference_needs_the_same_events() -> None:
    with pytest.raises(MetricError, match="same events: 3 against 2"):
        paired_difference(Estimate(1.0, np.zeros(3)), Estimate(1.0, np.zeros(2)))


def test_the_difference_of_infinite_losses_is_unknown_and_does_not_warn() -> None:
    endless = Estimate(np.inf, np.full(2, np.inf))
    assert np.isnan(paired_difference(endless, endless)).all()


def test_repeats_do_not_shrink_the_error_as_if_independent() -> None:
    a = Estimate(1.0, np.array([0.3, -0.4]))
    both = mean_estimate([a, Estimate(2.0, a.influence)])
    assert both.value == 1.5
    assert both.se == pytest.approx(a.se)


def test_mean_of_nothing_is_refused() -> None:
    """Regression: it was NaN with a warning."""
    with pytest.raises(MetricError, match="no estimates"):
        mean_estimate([])


def test_selecting_everything_never_varies() -> None:
    y, _, w = toy(500)
    everything = np.ones(y.size, dtype=bool)
    assert ams_estimate(y, everything, w)[0].se == pytest.approx(0.0, abs=1e-12)


def test_empty_and_one_class_selections() -> None:
    y, _, w = toy(500)
    for keep in (np.zeros(y.size, dtype=bool), ~y):
        estimate, s, _ = ams_estimate(y, keep, w)
        assert (estimate.value, s) == (0.0, 0.0)
    assert ams_estimate(y, y, w, 0.0)[0].value == np.inf


@pytest.mark.parametrize("shape", [(4, 1), (2,), (1, 4), ()])
def test_estimate_refuses_a_selection_of_another_shape(shape: tuple[int, ...]) -> None:
    """Regression: a wrong shape broadcast or failed as an index."""
    with pytest.raises(MetricError, match="selected must"):
        ams_estimate([1, 0, 1, 0], np.ones(shape, dtype=bool), [1, 1, 1, 1])


def test_scores_are_not_a_selection() -> None:
    """Regression: any non-zero score counted as selected."""
    with pytest.raises(MetricError, match="2 values 0 or 1"):
        ams_estimate([1, 0], [0.3, -2.0], [1, 1])
