"""Distance correlation and change of shape against slow definitions, other libraries and numerical derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon

from higgsbench import distance_correlation, shape_change
from higgsbench.errors import MetricError
from higgsbench.metrics import Estimate, Scored, mean_estimate
from higgsbench.metrics.spectators import metric_of, spectator_metrics
from higgsbench.metrics.weights import equal_bins

Array = NDArray[Any]


def pairs(n: int, seed: int, digits: int) -> tuple[Array, Array, Array]:
    """Dependent values, with ties where they are rounded, and weights that are small whole numbers."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    return x.round(digits), (x**2 + rng.normal(size=n)).round(digits), rng.integers(1, 4, n)


def slow_correlation(x: Array, y: Array, w: Array) -> float:
    p = w / w.sum()
    centred = []
    for values in (x, y):
        d = np.abs(values[:, None] - values[None, :])
        mean = d @ p
        centred.append(d - mean[:, None] - mean[None, :] + p @ mean)
    a, b = centred
    xy, xx, yy = (p @ (one * other) @ p for one, other in ((a, b), (a, a), (b, b)))
    return float(np.sqrt(xy / np.sqrt(xx * yy)))


@pytest.mark.parametrize("n", [2, 3, 17, 64, 100])
@pytest.mark.parametrize("digits", [0, 8])
def test_distance_correlation_equals_its_definition(n: int, digits: int) -> None:
    x, y, w = pairs(n, n, digits)
    x[0] += 3.0
    w = w * 0.37
    assert distance_correlation(x, y, w).value == pytest.approx(slow_correlation(x, y, w), rel=1e-9)


@pytest.mark.parametrize("digits", [1, 8])
def test_distance_correlation_equals_the_package_dcor(digits: int) -> None:
    """An event of weight k counts as k equal events, which the package takes."""
    dcor = pytest.importorskip("dcor")
    x, y, w = pairs(300, 1, digits)
    expected = dcor.distance_correlation(np.repeat(x, w), np.repeat(y, w))
    assert distance_correlation(x, y, w).value == pytest.approx(expected, rel=1e-9)


def test_independent_and_constant_values_have_no_correlation() -> None:
    x, y = (np.repeat([0.0, 1.0, 2.0], 3), np.tile([0.0, 1.0, 5.0], 3))
    assert distance_correlation(x, y, np.ones(9)).value == pytest.approx(0.0, abs=1e-7)
    constant = distance_correlation(np.ones(9), y, np.ones(9))
    assert (constant.value, constant.se) == (0.0, 0.0)
    assert distance_correlation(-2.0 * y + 1.0, y, np.ones(9)).value == pytest.approx(1.0)


def test_influence_is_the_derivative_by_the_weight() -> None:
    x, y, w = pairs(200, 2, 8)
    selected = y > 0.5
    few = x.round(0)  # these values keep their bins when a weight changes
    estimates: list[Callable[[Array], Estimate]] = [
        lambda w: distance_correlation(x, y, w),
        lambda w: shape_change(few, selected, w),
    ]
    for estimate in estimates:
        found = estimate(w.astype(float))
        assert np.sum(found.influence) == pytest.approx(0.0, abs=1e-12)
        for at in (0, 57, 120):
            more = w.astype(float)
            more[at] *= 1.0 + 1e-5
            slope = (estimate(more).value - found.value) / 1e-5
            assert slope == pytest.approx(found.influence[at], rel=1e-2, abs=1e-7)


def test_change_of_shape_equals_scipy_with_missing_values_as_a_bin() -> None:
    x, y, w = pairs(500, 3, 8)
    x[:40] = np.nan
    selected = y > 0.2
    place = equal_bins(x, w.astype(float), 20)
    assert set(place[:40]) == {20}
    before, after = (np.bincount(place, own, 21) for own in (w, w * selected))
    found = shape_change(x, selected, w)
    assert found.value == pytest.approx(jensenshannon(before, after, base=2) ** 2)
    assert shape_change(x, np.ones(500), w).value == pytest.approx(0.0, abs=1e-12)
    assert np.isnan(shape_change(x, np.zeros(500), w).value)


def test_bins_hold_equal_weights_and_keep_ties_together() -> None:
    rng = np.random.default_rng(4)
    x, w = rng.normal(size=10_000), rng.gamma(2.0, size=10_000)
    sums = np.bincount(equal_bins(x, w, 20), w, 21) / w.sum()
    assert sums[:20] == pytest.approx(np.full(20, 0.05), abs=1e-3)
    assert sums[20] == 0.0
    assert equal_bins(np.array([1.0, 2.0, 2.0, 2.0, 3.0]), np.ones(5), 4).tolist() == [0, 1, 1, 1, 1]
    assert equal_bins(np.full(3, np.nan), np.ones(3), 5).tolist() == [5, 5, 5]


def test_metrics_of_a_spectator_look_at_their_class_and_leave_out_missing_values() -> None:
    x, y, w = pairs(400, 5, 8)
    truth, selected = np.arange(400) % 2 == 0, y > 0.0
    x[:10] = np.nan
    events = Scored(truth, y, w.astype(float), 10.0, selected, {"mass": x})
    of_signal, of_background, shape_of = (metric.estimate(events) for metric in spectator_metrics("mass"))
    used = truth & np.isfinite(x)
    assert of_signal.value == distance_correlation(y[used], x[used], w[used]).value
    assert not of_signal.influence[~used].any()
    assert not of_background.influence[truth].any()
    assert shape_of.value == shape_change(x[~truth], selected[~truth], w[~truth]).value
    assert metric_of("jsd:mass").estimate(events).value == shape_of.value
    assert metric_of("auc").key == "auc"
    assert mean_estimate([shape_of, shape_of]).value == shape_of.value


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0, np.nan], [1.0, 2.0], [1.0, 1.0]), "needs finite values"),
        (([1.0, 2.0], [1.0, 2.0], [1.0, -1.0]), "positive sum"),
        (([1.0, 2.0], [1.0], [1.0, 1.0]), "y must have shape"),
        (([1.0, 2.0], [1.0, 2.0], None), "sample_weight is required"),
    ],
)
def test_malformed_input_is_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(MetricError, match=message):
        distance_correlation(*arguments)
