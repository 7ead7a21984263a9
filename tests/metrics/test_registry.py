"""No public metric takes weights and ignores them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import higgsbench.metrics
from higgsbench.ensemble import best_cut
from higgsbench.errors import MetricError

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


def test_every_metric_is_listed() -> None:
    functions = {name for name in higgsbench.metrics.__all__ if inspect.isfunction(getattr(higgsbench.metrics, name))}
    assert functions | {"best_cut"} == set(BY_WEIGHT) | WITHOUT_WEIGHTS


@pytest.mark.parametrize("name", sorted(WITHOUT_WEIGHTS))
def test_those_without_weights_do_not_even_accept_them(name: str) -> None:
    assert "sample_weight" not in inspect.signature(getattr(higgsbench.metrics, name)).parameters


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


@pytest.mark.parametrize("name", sorted(BY_WEIGHT))
def test_sample_weight_has_no_default(name: str) -> None:
    function = best_cut if name == "best_cut" else getattr(higgsbench.metrics, name)
    assert inspect.signature(function).parameters["sample_weight"].default is inspect.Parameter.empty
