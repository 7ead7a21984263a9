"""Binning of a score for a shape significance: the best bins under a least content, by dynamic programming.

Splitting a bin never lowers sum Z_i^2 (two samples are worth at least what their sum is), so that without a least
content the best binning is one bin per event, and its significance a fluctuation. Every bin must hold enough expected
background and enough simulated background events.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from higgsbench.errors import MetricError
from higgsbench.metrics._arrays import checked_labels, checked_scores, checked_weights
from higgsbench.metrics.significance import asimov_significance

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["BinnedSums", "BinningRules", "bin_sums", "optimal_edges"]

_CANDIDATES = 160


@dataclass(frozen=True)
class BinningRules:
    """What a binning must fulfil.

    Attributes:
        max_bins: largest number of bins.
        min_background: least expected background of a bin, events.
        min_effective: least effective number of simulated background events of a bin, (sum w)^2 / sum w^2.
        sigma_b: uncertainty of the background as a share of it, in every bin.

    Raises:
        MetricError: if a number is out of range.
    """

    max_bins: int = 10
    min_background: float = 10.0
    min_effective: float = 25.0
    sigma_b: float = 0.0

    def __post_init__(self) -> None:
        if self.max_bins < 1:
            raise MetricError(f"a binning needs at least one bin, not {self.max_bins}")
        for name in ("min_background", "min_effective", "sigma_b"):
            value = getattr(self, name)
            if not 0.0 <= value < np.inf:
                raise MetricError(f"{name} must be finite and not negative, got {value}")


@dataclass(frozen=True)
class BinnedSums:
    """Summed weights per bin, background-like bins first.

    Attributes:
        s: (k,) expected signal.
        b: (k,) expected background.
        s_variance: (k,) sum of squared signal weights.
        b_variance: (k,) sum of squared background weights.
    """

    s: NDArray[np.float64]
    b: NDArray[np.float64]
    s_variance: NDArray[np.float64]
    b_variance: NDArray[np.float64]


def bin_sums(y_true: ArrayLike, bin_index: NDArray[np.int64], sample_weight: ArrayLike | None, bins: int) -> BinnedSums:
    """Sum weights and squared weights per class and bin.

    Args:
        y_true: (n,) truth.
        bin_index: (n,) bin of each event, 0 to bins - 1.
        sample_weight: (n,) evaluation weights.
        bins: number of bins.

    Raises:
        MetricError: for malformed input.
    """
    y = checked_labels(y_true)
    w = checked_weights(sample_weight, y.size)
    signal = np.where(y, w, 0.0)
    background = np.where(y, 0.0, w)
    parts = [np.bincount(bin_index, v, bins).astype(np.float64) for v in (signal, background, signal**2, background**2)]
    return BinnedSums(*parts)


def _candidates(
    y: NDArray[np.bool_], score: NDArray[np.float64], w: NDArray[np.float64]
) -> tuple[NDArray[np.float64], BinnedSums]:
    """Lower edges of fine bins of equal signal, and their content; the first edge is -inf."""
    order = np.argsort(score[y], kind="stable")
    running = np.cumsum(w[y][order])
    wanted = running[-1] * np.arange(1, _CANDIDATES) / _CANDIDATES
    at = np.minimum(np.searchsorted(running, wanted), running.size - 1)
    edges = np.concatenate([[-np.inf], np.unique(score[y][order][at])])
    fine = np.searchsorted(edges, score, side="right") - 1
    return edges, bin_sums(y, fine, w, edges.size)


def _interval_values(sums: BinnedSums, rules: BinningRules) -> NDArray[np.float64]:
    """(m + 1, m + 1) Z^2 of the bin made of fine bins i to j - 1; -inf where it holds too little."""
    total = [np.concatenate([[0.0], np.cumsum(v)]) for v in (sums.s, sums.b, sums.b_variance)]
    s, b, v = (t[None, :] - t[:, None] for t in total)
    upper = np.triu(np.ones(s.shape, dtype=np.bool_), 1)
    enough = upper & (b >= rules.min_background) & (b**2 >= rules.min_effective * v) & (b > 0.0) & (s >= 0.0)
    out = np.full(s.shape, -np.inf)
    out[enough] = asimov_significance(s[enough], b[enough], rules.sigma_b, relative=True) ** 2
    return out


def optimal_edges(
    y_true: ArrayLike, score: ArrayLike, sample_weight: ArrayLike | None, rules: BinningRules
) -> list[NDArray[np.float64]]:
    """Find for every number of bins the edges with the highest sqrt(sum Z_i^2).

    Edges are taken from 160 fine bins of equal expected signal; among those the answer is exact.

    Args:
        y_true: (n,) truth.
        score: (n,) score that grows with signal likeness; any increasing transform gives the same bins.
        sample_weight: (n,) evaluation weights.
        rules: what a bin must hold.

    Returns:
        Entry k - 1 holds the (k,) ascending lower edges of the best k bins, the first -inf: event i is in bin
        searchsorted(edges, score, side="right") - 1. As many entries as there are feasible numbers of bins.

    Raises:
        MetricError: if there is no signal, or not even one bin holds enough, or the input is malformed.
    """
    y = checked_labels(y_true)
    score_ = checked_scores(score, y.size)
    w = checked_weights(sample_weight, y.size)
    if not y.any() or not np.sum(w[y]) > 0.0:
        raise MetricError("a binning needs signal events")
    edges, sums = _candidates(y, score_, w)
    value = _interval_values(sums, rules)
    best = value[0].copy()  # best value of the fine bins 0 to j - 1 in one bin
    if not np.isfinite(best[-1]):
        raise MetricError(
            f"all events together are too few for one bin of {rules.min_background:g} expected and "
            f"{rules.min_effective:g} effective background events"
        )
    found, steps = [edges[:1]], []
    for _ in range(1, rules.max_bins):
        total = best[:, None] + value
        previous = np.argmax(total, axis=0)
        best = np.take_along_axis(total, previous[None, :], axis=0)[0]
        if not np.isfinite(best[-1]):
            break
        steps.append(previous)
        found.append(_followed(steps, edges))
    return found


def _followed(steps: list[NDArray[np.intp]], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lower edges of the bins that the steps of the dynamic programme lead back through."""
    at = edges.size
    starts = []
    for previous in reversed(steps):
        at = int(previous[at])
        starts.append(at)
    return edges[np.array([0, *reversed(starts)], dtype=np.int64)]
