"""How much a score and its cut depend on a spectator, a column whose distribution a selection should not change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from higgsbench.errors import MetricError
from higgsbench.files import printable
from higgsbench.metrics.estimates import METRICS, Estimate, Metric, Scored
from higgsbench.metrics.weights import checked_selection, checked_weights, equal_bins, float_values

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import ArrayLike, NDArray

    from higgsbench.metrics.weights import Floats

LEGEND = (
    "dCor: distance correlation of score and column in signal (s) and background (b). JSD: change of the background's "
    "shape by the cut, in bits. Lower is better; both are near 0 if the selection does not depend on the column."
)
BINS = 20
"""Bins of equal weight in which the shapes of a spectator before and after the cut are compared."""


def distance_correlation(x: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None) -> Estimate:
    """Return the weighted distance correlation of two quantities, from 0 (independent) to 1.

    It uses all pairs of events, in n log n steps. The error is that of the delta method; it is not valid for
    independent quantities, whose value in n events is positive and falls as 1 / sqrt(n).

    Sources: Szekely, Rizzo and Bakirov, Ann. Statist. 35 (2007) 2769, the V-statistic with weights; Huo and Szekely,
    Technometrics 58 (2016) 435, the fast form.

    Args:
        x: (n,) finite values.
        y: (n,) finite values.
        sample_weight: (n,) weights; only their ratios matter.

    Raises:
        MetricError: for malformed input, or weights that do not sum to a positive number.

    Example:
        >>> x = np.linspace(-1.0, 1.0, 101)
        >>> round(higgsbench.distance_correlation(x, x**2, np.ones(101)).value, 3)
        0.492
    """
    w = checked_weights(sample_weight, np.size(x))
    a, b = (float_values(values, name, w.size) for values, name in ((x, "x"), (y, "y")))
    total = float(np.sum(w))
    if not (np.isfinite(a).all() and np.isfinite(b).all() and total > 0.0):
        raise MetricError("a distance correlation needs finite values and weights with a positive sum")
    p = w / total
    a, b = ((values - np.mean(values)) / (np.std(values) or 1.0) for values in (a, b))
    (xy, by_xy), (xx, by_xx), (yy, by_yy) = (_covariance(*pair, p) for pair in ((a, b), (a, a), (b, b)))
    square = xy / np.sqrt(xx * yy) if min(xx, yy) > 0.0 else 0.0
    if not square > 0.0:
        return Estimate(0.0, np.zeros(w.size))
    value = float(np.sqrt(square))
    return Estimate(value, p * value * 0.5 * (by_xy / xy - 0.5 * by_xx / xx - 0.5 * by_yy / yy))


def _covariance(x: Floats, y: Floats, p: Floats) -> tuple[float, Floats]:
    """Return the squared distance covariance of x and y (n,) of weights p of sum 1, and its influence function (n,)."""
    a, b = _mean_distance(x, p), _mean_distance(y, p)
    a_mean, b_mean, products = (float(np.sum(p * values)) for values in (a, b, a * b))
    mixed = _mean_distance(x, p * b) + _mean_distance(y, p * a)
    together = _mean_square(x, p) if x is y else _mean_product(x, y, p)
    # The mean over j of the product of doubly centred distances between i and j.
    mean = together - mixed - a * b + a * b_mean + b * a_mean + products - a_mean * b_mean
    value = float(np.sum(p * mean))
    return value, 2.0 * (mean - value)


def _mean_distance(x: Floats, w: Floats) -> Floats:
    """Return, for each i, the sum over j of w_j |x_i - x_j|."""
    order = np.argsort(x, kind="stable")
    below, moment = (np.empty(x.size) for _ in range(2))
    below[order], moment[order] = np.cumsum(w[order]), np.cumsum((w * x)[order])
    return x * (2.0 * below - np.sum(w)) - 2.0 * moment + np.sum(w * x)


def _mean_square(x: Floats, p: Floats) -> Floats:
    """Return, for each i, the sum over j of p_j (x_i - x_j)^2, for weights of sum 1."""
    return x**2 - 2.0 * x * np.sum(p * x) + np.sum(p * x**2)


def _mean_product(x: Floats, y: Floats, p: Floats) -> Floats:
    """Return, for each i, the sum over j of p_j |x_i - x_j| |y_i - y_j|.

    The product has a plus sign for pairs in the same order in x and y and a minus sign for the others, so it follows
    from sums over events that are lower in x, in y, and in both.
    """
    order = np.argsort(x, kind="stable")
    x, y, p = x[order], y[order], p[order]
    values = np.stack([p, p * y, p * x, p * x * y])
    by_y = np.argsort(y, kind="stable")
    rank = np.empty(x.size, dtype=np.int32)
    rank[by_y] = np.arange(x.size)
    below_x = np.cumsum(values, axis=1) - values
    below_y = (np.cumsum(values[:, by_y], axis=1) - values[:, by_y])[:, rank]
    sums = 4.0 * _sums_below(rank, values) - 2.0 * (below_x + below_y) + values.sum(axis=1, keepdims=True)
    out = np.empty(x.size)
    out[order] = x * y * sums[0] - x * sums[1] - y * sums[2] + sums[3]
    return out


def _sums_below(rank: NDArray[np.int32], values: Floats) -> Floats:
    """Sum values (k, n) of those earlier events that have a lower rank; `rank` is a permutation of 0 to n - 1.

    Bits are taken from the highest down. Events with the same higher bits form a block in which they keep their order.
    There, those with the bit have higher ranks than those without it, so they receive the sum of the earlier of these.
    """
    n = rank.size
    out, at = np.zeros_like(values), np.arange(n, dtype=np.int32)
    running, count = np.zeros((len(values), n + 1)), np.zeros(n + 1, dtype=np.int32)
    for bit in reversed(range((n - 1).bit_length())):
        own = rank[at]
        low = (own >> bit) & 1 == 0
        np.cumsum(low, out=count[1:])
        high, start = np.flatnonzero(~low), (own >> bit + 1) << bit + 1
        for total, source, target in zip(running, values, out, strict=True):
            np.cumsum(np.where(low, source[at], 0.0), out=total[1:])
            target[at[high]] += total[high] - total[start[high]]
        lower = count[:-1] - count[start]
        moved = np.empty_like(at)
        moved[np.where(low, start + lower, np.arange(n) + (1 << bit) - lower)] = at
        at = moved
    return out


def shape_change(values: ArrayLike, selected: ArrayLike, sample_weight: ArrayLike | None) -> Estimate:
    """Return the Jensen-Shannon divergence, in bits, between a quantity's distributions in selected and in all events.

    It is 0 if the selection keeps the shape, and at most 1. It uses 20 bins of equal weight in all events, and one bin
    for missing values. A bin of negative weight counts as empty. If few events are selected, it is positive by chance.

    Source: J. Lin, IEEE Trans. Inf. Theory 37 (1991) 145. The error is that of the delta method at a fixed selection.

    Args:
        values: (n,) values, NaN where missing.
        selected: (n,) whether each event is selected.
        sample_weight: (n,) weights; only their ratios matter.

    Returns:
        The divergence; NaN if the selected events have no positive weight.

    Raises:
        MetricError: for malformed input, or weights that do not sum to a positive number.

    Example:
        >>> mass = np.linspace(60.0, 160.0, 200)
        >>> round(higgsbench.shape_change(mass, mass > 110.0, np.ones(200)).value, 3)
        0.311
    """
    w = checked_weights(sample_weight, np.size(values))
    keep, found = checked_selection(selected, w.size), float_values(values, "values", w.size)
    place = equal_bins(found, w, BINS)
    totals = np.array([np.sum(w), np.sum(w * keep)])
    if not totals[0] > 0.0:
        raise MetricError(f"a change of shape needs weights with a positive sum, got {totals[0]}")
    if not totals[1] > 0.0:
        return Estimate(np.nan, np.full(w.size, np.nan))
    shares = np.stack([np.bincount(place, own, BINS + 1) for own in (w, w * keep)]) / totals[:, None]
    shares = np.maximum(shares, 0.0)
    middle = np.broadcast_to(shares.mean(axis=0), shares.shape)
    ratio = np.divide(shares, middle, out=np.ones_like(shares), where=shares > 0.0)
    slope = 0.5 * np.log2(ratio)  # of the divergence by each share
    parts = np.sum(shares * slope, axis=1)
    influence = ((slope[:, place] - parts[:, None]) * np.stack([w, w * keep]) / totals[:, None]).sum(axis=0)
    return Estimate(float(parts.sum()), influence)


def _correlation(column: str, *, of_signal: bool) -> Metric:
    def estimate(events: Scored) -> Estimate:
        values = events.spectators[column]
        used = (events.y == of_signal) & np.isfinite(values)
        found = distance_correlation(events.score[used], values[used], events.weight[used])
        influence = np.zeros(used.size)
        influence[used] = found.influence
        return Estimate(found.value, influence)

    name = "signal" if of_signal else "background"
    text = f"Distance correlation of score and {column} in {name}; 0 if they are independent."
    return _record(f"dcor_{name}:{column}", f"dCor of {column}, {name[0]}", text, estimate)


def _shape(column: str) -> Metric:
    def estimate(events: Scored) -> Estimate:
        if events.selected is None:
            raise MetricError("a change of shape needs a selection")
        background = ~events.y
        own, keep = events.spectators[column][background], events.selected[background]
        found = shape_change(own, keep, events.weight[background])
        influence = np.zeros(background.size)
        influence[background] = found.influence
        return Estimate(found.value, influence)

    text = f"Jensen-Shannon divergence, in bits, between the shapes of {column} in background before and after the cut."
    return _record(f"jsd:{column}", f"JSD of {column}", text, estimate)


def _record(key: str, heading: str, text: str, estimate: Callable[[Scored], Estimate]) -> Metric:
    return Metric(
        key, key, printable(heading), printable(text), estimate, lower_is_better=True, headline=False, priority=4
    )


def spectator_metrics(column: str) -> tuple[Metric, ...]:
    """Return the metrics of a spectator: `dcor_signal:COLUMN`, `dcor_background:COLUMN` and `jsd:COLUMN`.

    Events in which the spectator is missing do not count in the correlations and are one bin of the shape.
    """
    return _correlation(column, of_signal=True), _correlation(column, of_signal=False), _shape(column)


def metric_of(name: str) -> Metric:
    """Return a metric by its name, also one of a spectator; the name must be known."""
    known = METRICS.get(name)
    return known or next(metric for metric in spectator_metrics(name.partition(":")[2]) if metric.name == name)


def spectators_of(record: Mapping[str, object]) -> list[str]:
    """Return the spectators for which a row has numbers."""
    return [key.removeprefix("jsd:") for key in record if key.startswith("jsd:")]
