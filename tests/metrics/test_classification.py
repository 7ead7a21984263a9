"""Weighted AUC and log-loss against slow definitions, scikit-learn and the bootstrap."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score

from higgsbench.errors import MetricError
from higgsbench.metrics import Estimate, log_loss, mean_estimate, roc_auc

EVENTS = st.lists(
    st.tuples(st.booleans(), st.one_of(st.integers(-3, 3).map(float), st.floats(-30, 30)), st.floats(1e-3, 1e3)),
    min_size=2,
    max_size=40,
)
SOME = settings(max_examples=80, deadline=None, derandomize=True)


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


def toy(n: int, seed: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    rng = np.random.default_rng(seed)
    y = rng.random(n) < 0.4
    return y, rng.normal(size=n) + y, rng.gamma(1.0, size=n) * np.where(y, 1.0, 50.0)


@pytest.mark.parametrize("metric", [roc_auc, log_loss])
def test_standard_error_equals_the_bootstrap(metric: Any) -> None:
    y, score, w = toy(1500, 3)
    rng = np.random.default_rng(4)
    totals = np.where(y, w[y].sum(), w[~y].sum())
    replicas = []
    for _ in range(400):
        v = w * rng.poisson(1.0, w.size)
        v *= totals / np.where(y, v[y].sum(), v[~y].sum())
        replicas.append(metric(y, score, v).value)
    assert metric(y, score, w).se == pytest.approx(float(np.std(replicas)), rel=0.12)


def test_infinite_scores() -> None:
    assert roc_auc([1, 0, 0], [np.inf, -np.inf, 0.0], [1, 1, 1]).value == 1.0
    right = log_loss([1, 0], [np.inf, -np.inf], [1, 1])
    assert (right.value, right.se) == (0.0, 0.0)


def test_log_loss_of_certain_mistakes_is_infinite_with_an_infinite_error() -> None:
    """Regression: the error was NaN."""
    wrong = log_loss([1, 0, 0], [-np.inf, 0.0, 1.0], [1, 1, 1])
    assert (wrong.value, wrong.se) == (np.inf, np.inf)
    assert mean_estimate([wrong, wrong]).se == np.inf


def test_log_loss_passes_over_events_without_weight() -> None:
    """Regression: a weight of zero times an infinite loss was NaN."""
    assert log_loss([1, 0, 1], [-np.inf, 0.0, 0.0], [0.0, 1.0, 1.0]).value == pytest.approx(np.log(2))


def test_large_log_odds_do_not_overflow() -> None:
    assert log_loss([1, 0], [-1e4, 1e4], [1, 1]).value == pytest.approx(1e4)
    assert log_loss([1, 0], [1e4, -1e4], [1, 1]).value == 0.0


@pytest.mark.parametrize(("y", "w"), [([1, 1], [1, 1]), ([0, 0], [1, 1]), ([1, 0], [0, 1]), ([1, 0], [1, 0])])
def test_auc_needs_both_classes(y: list[int], w: list[float]) -> None:
    with pytest.raises(MetricError, match="signal and background"):
        roc_auc(y, [1.0, 2.0], w)


def test_log_loss_needs_weight() -> None:
    with pytest.raises(MetricError, match="positive sum"):
        log_loss([1, 0], [1.0, 2.0], [0.0, 0.0])


def test_estimate_of_one_event() -> None:
    assert Estimate(1.0, np.array([3.0, 4.0])).se == 5.0
