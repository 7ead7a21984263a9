"""Paired event bootstrap of a row's metrics, the choice of the cut included.

Every replica weighs the events anew. Its AMS is the AMS of the honest selection under the new weights, plus what moving
the cut to where the replica would have put it changes on the curve of all events, smoothed where the rule smooths. The
cut of a replica is not simply applied to the replica: the accidental bumps of the sample, the same in all replicas,
would be counted once more with every step of the cut; on fresh simulated samples such errors came out some 10% too
large (docs/statistics.md). All rows on the same events see the same replicas, so that differences between rows, of one
run or of several, are paired.

Scores enter the choice of the cut through their rank in fine bins: per replica the work is one weighted histogram, not
a sort.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter1d

from higgsbench.ensemble.cut import MAX_BACKGROUND_ERROR, kernel_width
from higgsbench.ensemble.selection import cross_validated_selection
from higgsbench.metrics.ams import ams_gradient, raw_ams
from higgsbench.metrics.resampling import poisson_counts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from higgsbench.ensemble.truth import Truth

__all__ = ["BINS", "REPLICAS", "Replicas", "bootstrap_row", "bootstrap_rows"]

REPLICAS = 200
"""The standard error of a standard error from B replicas is 1 / sqrt(2 B): 5% at 200."""

BINS = 250
"""Rank bins; where a replica would cut falls between bins."""

_SEED = 20140912
_EVENTS_AT_ONCE = 1 << 22
_REPLICAS_AT_ONCE = 50
_KEPT_DRAWS = 1 << 26


@dataclass(frozen=True)
class Replicas:
    """Bootstrap replicas of a row's metrics, shape (replicas,) each.

    Attributes:
        ams_cv: cross-validated AMS, the choice of the cuts included.
        auc: weighted ROC AUC.
    """

    ams_cv: NDArray[np.float64]
    auc: NDArray[np.float64]


def _rank_bins(score: NDArray[np.float64]) -> NDArray[np.int64]:
    """Bin of each event by descending rank; tied scores share the bin of the first of them."""
    ascending = np.sort(score)
    above = score.size - np.searchsorted(ascending, score, side="right")
    return (above * BINS) // score.size


def bootstrap_row(
    scores: NDArray[np.float64],
    truth: Truth,
    replicas: int = REPLICAS,
    *,
    selected: NDArray[np.bool_] | None = None,
) -> Replicas:
    """Bootstrap a row.

    Args:
        scores: (repeats, n) out-of-fold scores.
        truth: labels, evaluation weights, folds, reference totals and the cut rule.
        replicas: number of replicas.
        selected: (repeats, n) the honest selection, where the caller has it already.

    Returns:
        The replicas, averaged over repeats.
    """
    return bootstrap_rows([(scores, truth, selected)], replicas)[0]


def bootstrap_rows(
    rows: Sequence[tuple[NDArray[np.float64], Truth, NDArray[np.bool_] | None]], replicas: int
) -> list[Replicas]:
    """Bootstrap several rows on the same events with the same draws; see `bootstrap_row`.

    Args:
        rows: scores, truth and selection (or None) of each row; folds and rules may differ.
        replicas: number of replicas.
    """
    n = rows[0][1].y.size
    repeats = [_Repeat(row, r, replicas) for row in rows for r in range(row[0].shape[0])]
    chunk = max(1, min(_REPLICAS_AT_ONCE, _EVENTS_AT_ONCE // max(n, 1)))
    draws = _draws(n, replicas)
    for lo in range(0, replicas, chunk):
        part = slice(lo, min(lo + chunk, replicas))
        counts = draws(part)
        for repeat in repeats:
            repeat.take(counts, part)
    out = []
    done = iter(repeats)
    for scores, _, _ in rows:
        own = [next(done) for _ in range(scores.shape[0])]
        out.append(
            Replicas(
                ams_cv=np.asarray(np.mean([r.ams() for r in own], axis=0)),
                auc=np.asarray(np.mean([r.auc for r in own], axis=0)),
            )
        )
    return out


class _Repeat:
    """One repeat of one row: its events in cells of class x bin x fold, and what the replicas come to."""

    def __init__(
        self, row: tuple[NDArray[np.float64], Truth, NDArray[np.bool_] | None], repeat: int, replicas: int
    ) -> None:
        scores, truth, selected = row
        self.truth = truth
        folds = int(truth.fold.max()) + 1
        self.shape = (2, BINS, folds)
        self.cell = (truth.y.astype(np.int64) * BINS + _rank_bins(scores[repeat])) * folds + truth.fold[repeat]
        kept = cross_validated_selection(scores[repeat], truth, repeat) if selected is None else selected[repeat]
        self.kept = np.flatnonzero(kept)
        self.squares = truth.weight**2
        everything = np.bincount(self.cell, truth.weight, int(np.prod(self.shape))).reshape(self.shape)
        self.curve = _curve(everything.sum(axis=2), truth).T  # (bin, class)
        self.fixed, self.auc = np.empty(replicas), np.empty(replicas)
        self.moved = np.empty((replicas, 2))

    def take(self, counts: NDArray[np.float64], part: slice) -> None:
        """Add the replicas of a part; counts is (replicas of the part, n)."""
        size = int(np.prod(self.shape))
        first = np.empty((counts.shape[0], *self.shape))
        second = np.empty_like(first)
        selected = np.empty((counts.shape[0], 2))
        weight, signal = self.truth.weight[self.kept], self.truth.y[self.kept]
        for i, count in enumerate(counts):
            first[i] = np.bincount(self.cell, self.truth.weight * count, size).reshape(self.shape)
            second[i] = np.bincount(self.cell, self.squares * count, size).reshape(self.shape)
            selected[i] = np.bincount(signal, weight * count[self.kept], 2)
        pooled = first.sum(axis=3)
        b, s = np.maximum(selected * _scale(pooled, self.truth)[:, :, 0], 0.0).T
        self.fixed[part] = raw_ams(s, b, self.truth.b_reg)
        self.auc[part] = _binned_auc(pooled)
        self.moved[part] = self._curve_at_chosen(first, second)

    def _curve_at_chosen(self, first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
        """Selected background and signal on the curve of all events, each fold cut where its other folds say."""
        all1, all2 = first.sum(axis=3), second.sum(axis=3)
        folds = self.shape[2]
        out = np.zeros((first.shape[0], 2))
        for k in range(folds):
            out += self.curve[_chosen_bin(all1 - first[..., k], all2 - second[..., k], self.truth)] / folds
        return np.maximum(out, 0.0)

    def ams(self) -> NDArray[np.float64]:
        """AMS of the replicas: fixed selection, plus the move of the cut around its mean."""
        b, s = self.moved.T
        move = raw_ams(np.ascontiguousarray(s), np.ascontiguousarray(b), self.truth.b_reg)
        known = np.isfinite(move)
        return self.fixed + np.where(known, move - (move[known].mean() if known.any() else 0.0), 0.0)


def _draws(n: int, replicas: int) -> Callable[[slice], NDArray[np.float64]]:
    """Return how often replicas draw each event, (replicas, n) part by part; the parts are asked for in order.

    All rows of a run share the draws, so those of up to a few hundred thousand events are kept.
    """
    if n * replicas <= _KEPT_DRAWS:
        kept = _all_draws(n, replicas)
        return lambda part: kept[part].astype(np.float64)
    rng = np.random.default_rng(_SEED)
    return lambda part: poisson_counts(rng, (part.stop - part.start, n)).astype(np.float64)


@functools.lru_cache(maxsize=1)
def _all_draws(n: int, replicas: int) -> NDArray[np.uint8]:
    return poisson_counts(np.random.default_rng(_SEED), (replicas, n))


def _scale(sums: NDArray[np.float64], truth: Truth) -> NDArray[np.float64]:
    """Factors (replicas, class, 1) that bring the class sums to the reference totals."""
    total = sums.sum(axis=2, keepdims=True)
    wanted = np.array([[truth.totals[1]], [truth.totals[0]]])
    scale: NDArray[np.float64] = np.divide(wanted, total, out=np.zeros_like(total), where=total > 0.0)
    return scale


@functools.lru_cache(maxsize=4)
def _smoothing(width: float) -> NDArray[np.float64]:
    """Matrix (BINS, BINS) that turns sums per bin into cumulative sums of displaced events."""
    spread = gaussian_filter1d(np.eye(BINS), width * BINS, axis=1, mode="reflect")
    return np.asarray(np.cumsum(spread, axis=1))


def _curve(content: NDArray[np.float64], truth: Truth) -> NDArray[np.float64]:
    """Sums selected at every bin from sums per bin (..., bin), as the cut rule sees them."""
    if truth.rule == "smooth":
        return np.asarray(content @ _smoothing(kernel_width(truth.y.size)))
    return np.asarray(np.cumsum(content, axis=-1))


def _chosen_bin(first: NDArray[np.float64], second: NDArray[np.float64], truth: Truth) -> NDArray[np.intp]:
    """Apply the cut rule to binned sums (replicas, class, bin): `choose_cut` at the resolution of the bins."""
    scale = _scale(first, truth)
    selected = np.cumsum(first * scale, axis=2)
    b, s = np.moveaxis(np.maximum(_curve(first * scale, truth), 0.0), 1, 0)
    value = raw_ams(s.ravel(), b.ravel(), truth.b_reg).reshape(s.shape)
    value = np.where(np.isfinite(value), value, -np.inf)  # as in `choose_cut`; b_reg = 0 without background
    if truth.rule == "max":
        return np.asarray(np.argmax(value, axis=1))
    # Trust is in the events as they are: smoothing spreads background to where there is none.
    square = np.cumsum(second * scale**2, axis=2)
    share = selected / np.array([[truth.totals[1]], [truth.totals[0]]])
    variance = np.maximum((1.0 - 2.0 * share) * square + share**2 * square[:, :, -1:], 0.0)
    trusted = (selected[:, 0] > 0.0) & (np.sqrt(variance[:, 0]) <= MAX_BACKGROUND_ERROR * selected[:, 0])
    if truth.rule == "lower":
        by_s, by_b = ams_gradient(s, b, max(truth.b_reg, 1e-12))
        value = value - np.sqrt(by_s**2 * variance[:, 1] + by_b**2 * variance[:, 0])
    trusted |= ~trusted.any(axis=1, keepdims=True)
    return np.asarray(np.argmax(np.where(trusted, value, -np.inf), axis=1))


def _binned_auc(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """AUC of binned scores (replicas, class, bin), best bin first; events that share a bin count half."""
    background, signal = np.moveaxis(sums, 1, 0)
    below = background.sum(axis=1, keepdims=True) - np.cumsum(background, axis=1) + 0.5 * background
    norm = signal.sum(axis=1) * background.sum(axis=1)
    halves = np.full(norm.shape, 0.5)
    auc: NDArray[np.float64] = np.divide(np.sum(signal * below, axis=1), norm, out=halves, where=norm > 0.0)
    return auc
