"""AUC, log-loss and AMS with their standard errors, against slow definitions, scikit-learn and the bootstrap."""

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


def sample(n: int, seed: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    rng = np.random.default_rng(seed)
    y = rng.random(n) < 0.4
    return y, rng.normal(size=n) + y, rng.gamma(1.0, size=n) * np.where(y, 1.0, 50.0)


@pytest.mark.parametrize("metric", [roc_auc, log_loss])
def test_standard_error_equals_the_bootstrap(metric: Any) -> None:
    y, score, w = sample(1500, 3)
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
