"""The numbers of one leaderboard row, computed from stored scores, with their paired event bootstrap."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from higgsbench.ensemble.cut import (
    MAX_BACKGROUND_ERROR,
    Cut,
    Truth,
    choose_cut,
    cross_validated_selection,
    kernel_width,
)
from higgsbench.metrics.ams import ams_gradient, ams_scan, raw_ams
from higgsbench.metrics.estimates import Estimate, ams_estimate, log_loss, mean_estimate, poisson_counts, roc_auc
from higgsbench.metrics.weights import evaluation_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from scipy.sparse import csc_array

__all__ = [
    "BINS",
    "METRICS_VERSION",
    "REPLICAS",
    "HeldOut",
    "Replicas",
    "RowMetrics",
    "Truth",
    "bootstrap_row",
    "bootstrap_rows",
    "evaluate_held_out",
    "evaluate_row",
    "paired_error",
]


REPLICAS = 200
"""The standard error of a standard error from B replicas is 1 / sqrt(2 B): 5% at 200."""

BINS = 250
"""Rank bins; cuts of a replica fall between bins."""

_OTHERS = 8
_SEED = 20140912
_REPLICAS_AT_ONCE = 50
_DRAWS_AT_ONCE = 1 << 23
_EVENTS_AT_ONCE = 1 << 13
_REPEATS_AT_ONCE = 8
_KEPT_DRAWS = 1 << 22


@dataclass(frozen=True)
class Replicas:
    """Bootstrap replicas of a row's metrics, shape (replicas,) each.

    Attributes:
        ams_cv: cross-validated AMS, cuts chosen anew.
        auc: weighted ROC AUC.
        at_others: (1 + others, replicas) AMS of the sample's own events at the replica's cuts, then of the replica's
            events at the cuts of each of some other replicas; no others where there are too few replicas.
    """

    ams_cv: NDArray[np.float64]
    auc: NDArray[np.float64]
    at_others: NDArray[np.float64]


def paired_error(a: Replicas, b: Replicas) -> float:
    """Standard error of the difference of two rows' cross-validated AMS.

    The scatter of the replicas' difference counts something twice. A sample's AMS curve has accidental bumps N upon the
    true curve A, a replica's N* as well: A + N + N*. Where the cut moves from replica to replica, it moves over N, the
    same in all of them, and over N*; in a fresh sample it moves over its own bumps alone. Cuts of other replicas, which
    do not know N*, tell how much that is: at them a replica's events vary by var(A + N + N*), the sample's own by
    var(A + N), and N* is as large as N. The difference of the two is taken off, but never more than half.

    Both variances are means over several cuts each: from one pair of cuts per replica they scatter so much that what is
    taken off, cut at nought and at half, is too large on average.

    Args:
        a: replicas of the one row.
        b: replicas of the other, of the same draws.
    """
    whole = float(np.var(a.ams_cv - b.ams_cv, ddof=1))
    kept = min(len(a.at_others), len(b.at_others))
    sample, others = np.split(a.at_others[:kept] - b.at_others[:kept], [1])
    if len(others) < 2:
        return float(np.sqrt(whole))
    twice = float(np.mean(np.var(others, axis=0, ddof=1)) - np.var(sample, ddof=1))
    return float(np.sqrt(whole - min(max(twice, 0.0), 0.5 * whole)))


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
    return bootstrap_rows([(scores, truth)], replicas)[0]


def bootstrap_rows(rows: Sequence[tuple[NDArray[np.float64], Truth]], replicas: int) -> list[Replicas]:
    """Bootstrap several rows on the same events with the same draws; see `bootstrap_row`.

    Args:
        rows: scores and truth of each row; folds and rules may differ.
        replicas: number of replicas.
    """
    n = rows[0][1].y.size
    parts = -(-replicas // max(_OTHERS + 2, min(_REPLICAS_AT_ONCE, _DRAWS_AT_ONCE // max(n, 1))))
    others = min(_OTHERS, replicas // parts - 1)
    repeats = [_Repeat(*row, r, replicas, others) for row in rows for r in range(row[0].shape[0])]
    draws = _draws(n, replicas)
    for indices in np.array_split(np.arange(replicas), parts):
        part = slice(int(indices[0]), int(indices[-1]) + 1)
        drawn = draws(part)
        for first in range(0, len(repeats), _REPEATS_AT_ONCE):
            group = repeats[first : first + _REPEATS_AT_ONCE]
            for repeat, sums in zip(group, _summed(drawn, group), strict=True):
                repeat.take(sums, part)
    out = []
    done = iter(repeats)
    for scores, _ in rows:
        own = [next(done) for _ in range(scores.shape[0])]
        out.append(
            Replicas(
                ams_cv=np.asarray(np.mean([r.ams for r in own], axis=0)),
                auc=np.asarray(np.mean([r.auc for r in own], axis=0)),
                at_others=np.asarray(np.mean([r.at_others for r in own], axis=0)),
            )
        )
    return out


class _Repeat:
    """One repeat of one row: its events in cells of class x bin x fold, and what the replicas come to."""

    def __init__(self, scores: NDArray[np.float64], truth: Truth, repeat: int, replicas: int, others: int) -> None:
        self.truth = truth
        folds = int(truth.fold.max()) + 1
        self.shape = (2, BINS, folds)
        cell = (truth.y.astype(np.int64) * BINS + _rank_bins(scores[repeat])) * folds + truth.fold[repeat]
        self.moments = [_moments(cell[at], truth.weight[at], 2 * BINS * folds) for at in _slices(cell.size)]
        sums = np.asarray(np.bincount(cell, truth.weight, 2 * BINS * folds), dtype=np.float64)
        self.sample: NDArray[np.float64] = np.cumsum(sums.reshape(1, *self.shape), axis=2)
        self.ams, self.auc = np.empty((2, replicas))
        self.at_others = np.empty((1 + others, replicas))

    def take(self, sums: NDArray[np.float64], part: slice) -> None:
        """Add the replicas of a part; sums is (2 cells, replicas of the part)."""
        first, second = np.moveaxis(np.ascontiguousarray(sums.T).reshape(-1, 2, *self.shape), 1, 0)
        at = _chosen_bins(first, second, self.truth)
        running: NDArray[np.float64] = np.cumsum(first, axis=2) * _scale(first.sum(axis=3), self.truth)[..., None]
        self.ams[part] = _ams_at(running, at, self.truth)
        self.auc[part] = _binned_auc(first.sum(axis=3))
        self.at_others[0, part] = _ams_at(self.sample, at, self.truth)
        for other in range(1, len(self.at_others)):
            self.at_others[other, part] = _ams_at(running, np.roll(at, other, axis=0), self.truth)


def _slices(n: int) -> list[slice]:
    """Cut n events into parts: of one part at a time the draws are in memory as float64, eight times their size."""
    return [slice(first, first + _EVENTS_AT_ONCE) for first in range(0, n, _EVENTS_AT_ONCE)]


def _summed(draws: NDArray[np.uint8], repeats: list[_Repeat]) -> list[NDArray[np.float64]]:
    """Sums of weights, and below them of squared weights, per cell: (2 cells, replicas) for each repeat.

    Args:
        draws: (replicas, n) how often each replica draws each event.
        repeats: whose cells.
    """
    out = [np.zeros((repeat.moments[0].shape[0], draws.shape[0])) for repeat in repeats]
    for i, at in enumerate(_slices(draws.shape[1])):
        # Bytes are turned round before they become eight times as many.
        counts = np.ascontiguousarray(draws[:, at].T).astype(np.float64)
        for sums, repeat in zip(out, repeats, strict=True):
            sums += repeat.moments[i] @ counts
    return out


def _moments(cell: NDArray[np.int64], weight: NDArray[np.float64], cells: int) -> csc_array:
    """Matrix (2 cells, n) that sums weights, and below them squared weights, per cell.

    Event by event in its columns, so that a product goes through the draws once and in their order.

    Args:
        cell: (n,) cell of each event.
        weight: (n,) evaluation weights.
        cells: number of cells.
    """
    from scipy.sparse import csc_array

    rows = np.column_stack([cell, cell + cells]).astype(np.int32)
    values = np.column_stack([weight, weight**2])
    starts = np.arange(0, 2 * cell.size + 1, 2, dtype=np.int32)
    return csc_array((values.ravel(), rows.ravel(), starts), shape=(2 * cells, cell.size))


def _draws(n: int, replicas: int) -> Callable[[slice], NDArray[np.uint8]]:
    """Return how often replicas draw each event, (replicas, n) part by part; the parts are asked for in order.

    All rows of a run see the same draws. Those of few events are kept; of many they would take more than the events
    do, and are drawn again.
    """
    if n * replicas <= _KEPT_DRAWS:
        kept = _all_draws(n, replicas)
        return lambda part: kept[part]
    rng = np.random.default_rng(_SEED)
    return lambda part: poisson_counts(rng, (part.stop - part.start, n))


@functools.lru_cache(maxsize=1)
def _all_draws(n: int, replicas: int) -> NDArray[np.uint8]:
    return poisson_counts(np.random.default_rng(_SEED), (replicas, n))


def _chosen_bins(first: NDArray[np.float64], second: NDArray[np.float64], truth: Truth) -> NDArray[np.intp]:
    """Cut of each fold (replicas, fold), chosen on the other folds' sums of weights and their squares.

    Args:
        first: (replicas, class, bin, fold) sums of weights.
        second: of squared weights.
        truth: totals and rule.
    """
    all1, all2 = first.sum(axis=3), second.sum(axis=3)
    folds = range(first.shape[3])
    return np.stack([_chosen_bin(all1 - first[..., k], all2 - second[..., k], truth) for k in folds], axis=1)


def _ams_at(running: NDArray[np.float64], at: NDArray[np.intp], truth: Truth) -> NDArray[np.float64]:
    """Cross-validated AMS of cumulative sums (replicas or 1, class, bin, fold) at cuts (replicas, fold)."""
    shape = (at.shape[0], *running.shape[1:])
    selected = np.take_along_axis(np.broadcast_to(running, shape), at[:, None, None, :], axis=2)[:, :, 0]
    b, s = np.maximum(selected.sum(axis=2), 0.0).T
    return raw_ams(s, b, truth.b_reg)


def _scale(sums: NDArray[np.float64], truth: Truth) -> NDArray[np.float64]:
    """Factors (replicas, class, 1) that bring the class sums to the reference totals."""
    total = sums.sum(axis=2, keepdims=True)
    wanted = np.array([[truth.totals[1]], [truth.totals[0]]])
    scale: NDArray[np.float64] = np.divide(wanted, total, out=np.zeros_like(total), where=total > 0.0)
    return scale


@functools.lru_cache(maxsize=4)
def _smoothing(width: float) -> NDArray[np.float64]:
    """Matrix (BINS, BINS) that turns sums per bin into cumulative sums of displaced events."""
    from scipy.ndimage import gaussian_filter1d

    spread = gaussian_filter1d(np.eye(BINS), width * BINS, axis=1, mode="reflect")
    return np.asarray(np.cumsum(spread, axis=1))


def _chosen_bin(first: NDArray[np.float64], second: NDArray[np.float64], truth: Truth) -> NDArray[np.intp]:
    """Apply the cut rule to binned sums (replicas, class, bin): `choose_cut` at the resolution of the bins."""
    scale = _scale(first, truth)
    selected = np.cumsum(first * scale, axis=2)
    smooth = truth.rule == "smooth"
    curve = (first * scale) @ _smoothing(kernel_width(truth.y.size)) if smooth else selected
    b, s = np.moveaxis(np.maximum(curve, 0.0), 1, 0)
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


METRICS_VERSION = 4
"""Raised whenever a definition below changes; rows of different versions are never ranked together."""


@dataclass(frozen=True)
class RowMetrics:
    """Metrics of one row.

    Attributes:
        ams_cv: AMS with each fold's cut chosen on the other folds, pooled; mean over repeats.
        ams_cv_se: its standard error from the event bootstrap, the choice of the cuts included.
        s: selected signal, b: selected background, fraction: selected share of events, all at the cuts of `ams_cv`.
        oof_max: the best cut on the pooled out-of-fold scores themselves (optimistic); mean AMS over repeats.
        oof_max_se: its standard error at fixed cut.
        auc: weighted ROC AUC.
        log_loss: weighted log-loss of the physical log-odds, nats per unit of weight.
        cut: the frozen cut, chosen by the rule on all out-of-fold scores; its threshold is the mean over repeats.
        replicas: bootstrap replicas, for paired differences to other rows on the same events.
    """

    ams_cv: float
    ams_cv_se: float
    s: float
    b: float
    fraction: float
    oof_max: float
    oof_max_se: float
    auc: Estimate
    log_loss: Estimate
    cut: Cut
    replicas: Replicas

    def without_events(self) -> RowMetrics:
        """Return the metrics without what each event contributes, 16 bytes for each event and row of a run."""
        return replace(self, auc=self.auc.without_events(), log_loss=self.log_loss.without_events())


@dataclass(frozen=True)
class HeldOut:
    """AMS of the frozen cut on held-out labelled events."""

    ams: float
    se: float
    s: float
    b: float
    auc: float


def evaluate_row(scores: NDArray[np.float64], truth: Truth) -> RowMetrics:
    """Compute the metrics of a row.

    Args:
        scores: (repeats, n) out-of-fold log-odds in physical normalisation.
        truth: labels, weights, folds and rules.

    Returns:
        The metrics, averaged over repeats.
    """
    selections = np.stack([cross_validated_selection(score, truth, r) for r, score in enumerate(scores)])
    values, sums, fractions, maxima, cuts, aucs, losses = [], [], [], [], [], [], []
    for score, selected in zip(scores, selections, strict=True):
        estimate, s, b = ams_estimate(truth.y, selected, truth.weight, truth.b_reg)
        curve = ams_scan(truth.y, score, truth.weight, truth.b_reg)
        values.append(estimate.value)
        sums.append((s, b))
        fractions.append(float(selected.mean()))
        maxima.append(choose_cut(curve, "max"))
        cuts.append(choose_cut(curve, truth.rule))
        aucs.append(roc_auc(truth.y, score, truth.weight))
        losses.append(log_loss(truth.y, score, truth.weight))
        del curve, estimate  # ten arrays of the events' length, which the bootstrap need not find in memory
    replicas = bootstrap_row(scores, truth)
    return RowMetrics(
        ams_cv=float(np.mean(values)),
        ams_cv_se=float(np.std(replicas.ams_cv, ddof=1)),
        s=float(np.mean([s for s, _ in sums])),
        b=float(np.mean([b for _, b in sums])),
        fraction=float(np.mean(fractions)),
        oof_max=float(np.mean([c.ams for c in maxima])),
        oof_max_se=float(np.mean([c.se for c in maxima])),
        auc=mean_estimate(aucs),
        log_loss=mean_estimate(losses),
        cut=_mean_cut(cuts),
        replicas=replicas,
    )


def _mean_cut(cuts: list[Cut]) -> Cut:
    names = ("threshold", "fraction", "ams", "se", "s", "b")
    return Cut(rule=cuts[0].rule, **{name: float(np.mean([getattr(c, name) for c in cuts])) for name in names})


def evaluate_held_out(
    y: NDArray[np.bool_],
    weight: NDArray[np.float64],
    score: NDArray[np.float64],
    threshold: float,
    totals: tuple[float, float],
    b_reg: float,
) -> HeldOut:
    """Apply the frozen cut to held-out events whose weights are rescaled to the reference totals.

    Args:
        y: (n,) truth.
        weight: (n,) weights as stored.
        score: (n,) scores.
        threshold: the frozen cut.
        totals: reference totals (N_s, N_b).
        b_reg: regularisation of the background.
    """
    w = evaluation_weights(y, weight, *totals)
    estimate, s, b = ams_estimate(y, score >= threshold, w, b_reg)
    return HeldOut(estimate.value, estimate.se, s, b, roc_auc(y, score, w).value)
