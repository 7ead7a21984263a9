"""Evaluation weights: the totals hold in every subset, and no public metric ignores weights."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import higgsbench.metrics
from higgsbench.ensemble.cut import best_cut
from higgsbench.errors import MetricError
from higgsbench.metrics import effective_sample_size, evaluation_weights
from higgsbench.schema import N_B, N_S


@given(
    st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=60),
    st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=60),
    st.floats(1e-3, 1e6),
)
@settings(max_examples=200, derandomize=True)
def test_class_sums_equal_the_totals(signal: list[float], background: list[float], n_s: float) -> None:
    y = np.array([1] * len(signal) + [0] * len(background))
    w = np.array(signal + background)
    out = evaluation_weights(y, w, n_s, N_B)
    np.testing.assert_array_equal(w, signal + background)  # the input is not changed
    assert out[y == 1].sum() == pytest.approx(n_s, rel=1e-9, abs=0)
    assert out[y == 0].sum() == pytest.approx(N_B, rel=1e-9, abs=0)
    np.testing.assert_allclose(out[y == 1] / out[0], w[y == 1] / w[0], rtol=1e-9)


@pytest.mark.parametrize(
    ("y", "w", "message"),
    [
        ([1, 1], [1, 1], "no background to weight: 0 background events"),
        ([0, 0], [1, 1], "no signal to weight: 0 signal events"),
        ([1, 0], [0, 1], "no signal to weight: 1 signal events with total weight 0"),
        ([1, 0, 0], [1, 1, -2], "no background to weight"),
        ([1, 0], None, "sample_weight is required"),
    ],
)
def test_a_class_without_weight_is_refused(y: Any, w: Any, message: str) -> None:
    with pytest.raises(MetricError, match=message):
        evaluation_weights(y, w, N_S, N_B)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_evaluation_weights_refuse_bad_totals(bad: float) -> None:
    """Regression: a total that is negative or NaN became weights that are negative or NaN."""
    with pytest.raises(MetricError, match="n_s must be a positive number"):
        evaluation_weights([1, 0], [1, 1], bad, 1.0)
    with pytest.raises(MetricError, match="n_b must be a positive number"):
        evaluation_weights([1, 0], [1, 1], 1.0, bad)


def test_effective_sample_size() -> None:
    assert effective_sample_size(np.full(17, 0.3)) == pytest.approx(17.0)
    assert effective_sample_size([1.0, 0.0, 0.0]) == pytest.approx(1.0)
    assert effective_sample_size([]) == 0.0


RNG = np.random.default_rng(0)
Y = RNG.random(300) < 0.4
SCORE = RNG.normal(size=300) + Y
WEIGHT = RNG.gamma(2.0, size=300) * 10.0
OTHER = WEIGHT * RNG.gamma(2.0, size=300)

Metric = Callable[[Any], Any]
BY_WEIGHT: dict[str, Metric] = {
    "ams_estimate": lambda w: higgsbench.metrics.ams_estimate(Y, SCORE > 0.5, w)[0].value,
    "ams_scan": lambda w: higgsbench.metrics.ams_scan(Y, SCORE, w).ams,
    "best_cut": lambda w: best_cut(Y, SCORE, w).ams,
    "effective_sample_size": lambda w: higgsbench.metrics.effective_sample_size(w),
    "evaluation_weights": lambda w: higgsbench.metrics.evaluation_weights(Y, w, 3.0, 5.0),
    "log_loss": lambda w: higgsbench.metrics.log_loss(Y, SCORE, w).value,
    "roc_auc": lambda w: higgsbench.metrics.roc_auc(Y, SCORE, w).value,
}
WITHOUT_WEIGHTS = {"ams", "ams_gradient", "mean_estimate", "paired_difference"}
"""These take sums or estimates, which carry their weights."""


def test_every_metric_takes_weights_and_has_no_default_for_them() -> None:
    functions = {name for name in higgsbench.metrics.__all__ if inspect.isfunction(getattr(higgsbench.metrics, name))}
    assert functions | {"best_cut"} == set(BY_WEIGHT) | WITHOUT_WEIGHTS
    for name in functions | {"best_cut"}:
        parameters = inspect.signature(getattr(higgsbench.metrics, name, best_cut)).parameters
        assert ("sample_weight" in parameters) is (name in BY_WEIGHT)
        if name in BY_WEIGHT:
            assert parameters["sample_weight"].default is inspect.Parameter.empty


@pytest.mark.parametrize("name", sorted(BY_WEIGHT))
def test_weights_change_the_value(name: str) -> None:
    a: NDArray[Any] = np.atleast_1d(BY_WEIGHT[name](WEIGHT))
    b: NDArray[Any] = np.atleast_1d(BY_WEIGHT[name](OTHER))
    assert np.abs(a - b).max() > 1e-6


@pytest.mark.parametrize("name", sorted(BY_WEIGHT))
@pytest.mark.parametrize("bad", [None, WEIGHT[:-1], np.where(Y, WEIGHT, np.nan), np.where(Y, WEIGHT, np.inf)])
def test_weights_that_cannot_be_used_are_refused(name: str, bad: Any) -> None:
    if name == "effective_sample_size" and bad is not None:
        bad = [1.0, np.nan]  # any length will do here
    with pytest.raises(MetricError):
        BY_WEIGHT[name](bad)
