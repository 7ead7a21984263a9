"""Paired event bootstrap of a row's metrics, the choice of the cut included.

The standard error of an AMS at a fixed cut leaves out that the cut itself was chosen on few events. Here every replica
weighs the events anew, chooses each fold's cut again on the other folds, and applies it. All rows on the same events
see the same replicas, so that differences between rows, of one run or of several, are paired. Against the scatter of
60 resampled data sets of 15,000 events the paired error came out at 0.86 to 0.95 of the truth with the `smooth` rule;
the delta method at fixed cuts at 0.77 to 0.80.

Scores enter through their rank in fine bins: per replica the work is one weighted histogram, not a sort.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter1d

from higgsbench.ensemble.cut import MAX_BACKGROUND_ERROR, kernel_width
from higgsbench.metrics.ams import ams_gradient, raw_ams

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from higgsbench.ensemble.evaluate import Truth

__all__ = ["BINS", "REPLICAS", "Replicas", "bootstrap_row"]

REPLICAS = 200
"""The standard error of a standard error from B replicas is 1 / sqrt(2 B): 5% at 200."""

BINS = 1000
"""Rank bins; cuts of a replica fall between bins."""

_SEED = 20140912
_CHUNK = 1 << 21


@dataclass(frozen=True)
class Replicas:
    """Bootstrap replicas of a row's metrics, shape (replicas,) each.

    Attributes:
        ams_cv: cross-validated AMS, cuts chosen anew.
        auc: weighted ROC AUC.
    """

    ams_cv: NDArray[np.float64]
    auc: NDArray[np.float64]


def _rank_bins(score: NDArray[np.float64]) -> NDArray[np.int64]:
    """Bin of each event by descending rank; tied scores share the bin of the first of them."""
    ascending = np.sort(score)
    above = score.size - np.searchsorted(ascending, score, side="right")
    return (above * BINS) // score.size


def bootstrap_row(scores: NDArray[np.float64], truth: Truth, replicas: int = REPLICAS) -> Replicas:
    """Bootstrap a row.

    Args:
        scores: (repeats, n) out-of-fold scores.
        truth: labels, evaluation weights, folds, reference totals and the cut rule.
        replicas: number of replicas.

    Returns:
        The replicas, averaged over repeats.
    """
    n = truth.y.size
    folds = int(truth.fold.max()) + 1
    repeats = scores.shape[0]
    # One column of cells per repeat: class x bin x fold.
    cell = [(truth.y.astype(np.int64) * BINS + _rank_bins(scores[r])) * folds + truth.fold[r] for r in range(repeats)]
    shape = (2, BINS, folds)
    size = int(np.prod(shape))
    squares = truth.weight**2
    ams_cv, auc = np.zeros(replicas), np.zeros(replicas)
    chunk = max(1, min(replicas, _CHUNK // max(n, 1)))
    rng = np.random.default_rng(_SEED)
    for lo in range(0, replicas, chunk):
        counts = rng.poisson(1.0, size=(min(chunk, replicas - lo), n)).astype(np.float64)
        for r in range(repeats):
            for i, count in enumerate(counts):
                first = np.bincount(cell[r], truth.weight * count, size).astype(np.float64).reshape(shape)
                second = np.bincount(cell[r], squares * count, size).astype(np.float64).reshape(shape)
                ams_cv[lo + i] += _replica_ams(first, second, truth) / repeats
                auc[lo + i] += _binned_auc(first.sum(axis=2)) / repeats
    return Replicas(ams_cv, auc)


def _replica_ams(first: NDArray[np.float64], second: NDArray[np.float64], truth: Truth) -> float:
    """Cross-validated AMS of one replica from sums of weights and squared weights per class x bin x fold."""
    folds = first.shape[2]
    selected = np.zeros(2)
    rest1 = first.sum(axis=2, keepdims=True) - first
    rest2 = second.sum(axis=2, keepdims=True) - second
    for k in range(folds):
        at = _chosen_bin(rest1[:, :, k], rest2[:, :, k], truth)
        selected += first[:, : at + 1, k].sum(axis=1)
    all_ = first.sum(axis=(1, 2))
    scale = np.divide([truth.totals[1], truth.totals[0]], all_, out=np.zeros(2), where=all_ > 0.0)
    b, s = np.maximum(selected * scale, 0.0)
    return float(raw_ams(np.array([s]), np.array([b]), truth.b_reg)[0])


def _chosen_bin(first: NDArray[np.float64], second: NDArray[np.float64], truth: Truth) -> int:
    """Apply the cut rule to binned sums (2, BINS): the same rule as `choose_cut`, at the resolution of the bins."""
    smooth = truth.rule == "smooth"
    sums = gaussian_filter1d(first, kernel_width(truth.y.size) * BINS, axis=1, mode="reflect") if smooth else first
    total = first.sum(axis=1, keepdims=True)
    scale = np.divide(np.array([[truth.totals[1]], [truth.totals[0]]]), total, out=np.zeros((2, 1)), where=total > 0.0)
    b, s = np.maximum(np.cumsum(sums * scale, axis=1), 0.0)
    value = raw_ams(s, b, truth.b_reg)
    value = np.where(np.isfinite(value), value, -np.inf)  # as in `choose_cut`; b_reg = 0 without background
    if truth.rule == "max":
        return int(np.argmax(value))
    # Trust is in the events as they are: smoothing spreads background to where there is none.
    selected = np.cumsum(first * scale, axis=1)
    square = np.cumsum(second * scale**2, axis=1)
    share = selected / np.maximum(np.array([[truth.totals[1]], [truth.totals[0]]]), 1e-300)
    variance = np.maximum((1.0 - 2.0 * share) * square + share**2 * square[:, -1:], 0.0)
    trusted = (selected[0] > 0.0) & (np.sqrt(variance[0]) <= MAX_BACKGROUND_ERROR * selected[0])
    if truth.rule == "lower":
        by_s, by_b = ams_gradient(s, b, max(truth.b_reg, 1e-12))
        value = value - np.sqrt(by_s**2 * variance[1] + by_b**2 * variance[0])
    return int(np.argmax(np.where(trusted, value, -np.inf))) if trusted.any() else int(np.argmax(value))


def _binned_auc(sums: NDArray[np.float64]) -> float:
    """AUC of binned scores (2, BINS), best bin first; events that share a bin count half."""
    background, signal = sums
    below = background.sum() - np.cumsum(background) + 0.5 * background
    norm = float(signal.sum() * background.sum())
    return float(np.sum(signal * below)) / norm if norm > 0.0 else 0.5
