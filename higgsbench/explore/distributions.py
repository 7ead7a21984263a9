"""Statistics of one feature out of its fine bins."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from higgsbench.explore.result import Histogram

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["QUANTILES", "BinnedAUC", "binned_auc", "histogram", "ks_distance", "quantiles"]

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class BinnedAUC:
    """An AUC, its standard error, and the largest error binning can have caused."""

    value: float
    se: float
    binning: float


def binned_auc(background: NDArray[np.float64], signal: NDArray[np.float64]) -> BinnedAUC | None:
    """Weighted AUC from ordered bins, events in one bin counting as ties.

    Pairs in one bin count one half where the exact value is 0 or 1, hence an error of at most half the product of the
    two shares, summed over the bins; bins that hold one value only (odd numbers, and missing) are exact.

    Args:
        background: (bins, 3) events, weights, squared weights, in ascending order of the feature; even numbers are
            open bins. The bound holds for weights that are not negative.
        signal: the same of the signal.

    Returns:
        The AUC, or None if a class has no positive weight.
    """
    total_b, total_s = float(background[:, 1].sum()), float(signal[:, 1].sum())
    if not (total_b > 0.0 and total_s > 0.0):
        return None
    b, s = background[:, 1] / total_b, signal[:, 1] / total_s
    below = np.cumsum(b) - 0.5 * b
    above = s.sum() - np.cumsum(s) + 0.5 * s
    value = float(np.sum(s * below))
    variance = float(np.sum(signal[:, 2] * (below - value) ** 2)) / total_s**2
    variance += float(np.sum(background[:, 2] * (above - value) ** 2)) / total_b**2
    inexact = np.abs(s * b)
    inexact[1::2] = 0.0
    return BinnedAUC(value, float(np.sqrt(variance)), 0.5 * float(np.sum(inexact)))


def quantiles(weights: NDArray[np.float64], edges: NDArray[np.float64], low: float, high: float) -> tuple[float, ...]:
    """Weighted quantiles of present values, linear inside a fine bin.

    Args:
        weights: (2 E + 1,) weight in each bin.
        edges: (E,) fine edges.
        low: smallest value.
        high: largest value.
    """
    total = float(weights.sum())
    if not total > 0.0:
        return tuple(float("nan") for _ in QUANTILES)
    cumulative = np.maximum.accumulate(np.cumsum(weights))
    out = []
    for level in QUANTILES:
        at = int(np.searchsorted(cumulative, level * total))
        at = min(at, weights.size - 1)
        if at % 2:
            out.append(float(edges[at // 2]))
            continue
        left = low if at == 0 else max(low, float(edges[at // 2 - 1]))
        right = high if at == weights.size - 1 else min(high, float(edges[at // 2]))
        before = cumulative[at - 1] if at else 0.0
        inside = cumulative[at] - before
        part = (level * total - before) / inside if inside > 0.0 else 0.5
        out.append(left + float(part) * (right - left))
    return tuple(out)


def histogram(
    bins: NDArray[np.float64], fine: NDArray[np.float64], display: NDArray[np.float64], scale: float
) -> Histogram:
    """Sum fine bins to the displayed ones, [low, high) each, the last one closed; exact, as the edges are shared."""
    start = 2 * np.searchsorted(fine, display) + 1
    start[-1] += 1  # the last bin includes its upper edge
    values, variances = [], []
    for first, last in itertools.pairwise(start.tolist()):
        values.append(scale * float(bins[first:last, 1].sum()))
        variances.append(scale**2 * float(bins[first:last, 2].sum()))
    below = scale * float(bins[: start[0], 1].sum())
    above = scale * float(bins[start[-1] : -1, 1].sum())
    return Histogram(tuple(values), tuple(variances), below, above)


def ks_distance(first: NDArray[np.float64], second: NDArray[np.float64]) -> tuple[float, float] | None:
    """Kolmogorov-Smirnov distance of two sets of bin contents, and the largest error binning can have caused."""
    total, other = float(first.sum()), float(second.sum())
    if not (total > 0.0 and other > 0.0):
        return None
    f, g = first / total, second / other
    distance = float(np.max(np.abs(np.cumsum(f) - np.cumsum(g))))
    # Inside an open bin the two curves can part by at most the larger of the shares they still gain there.
    error = float(np.max(np.maximum(np.abs(f), np.abs(g))[0::2], initial=0.0))
    return distance, error
