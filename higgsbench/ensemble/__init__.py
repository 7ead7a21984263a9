"""The numbers of one leaderboard row, computed from stored scores, with their paired event bootstrap.

The standard error of an AMS at a fixed cut ignores that the cut itself was chosen on few events. Here every replica
reweights the events, chooses the cut of each fold again on the other folds, and applies it. All rows on the same events
see the same replicas, so that differences between rows, of one run or of several, are paired. How the errors compare
with the scatter of fresh samples: docs/statistics.md.

Scores enter the choice of the cut through their rank in fine bins: each replica takes one weighted histogram instead of
a sort. The histograms of many replicas are one product of a sparse matrix, cells by events, and their draws. Nothing in
this package trains a base model.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.ensemble import cut as cuts
from higgsbench.ensemble.cut import BINS, Cut, Truth, choose_cut, cross_validated_selection
from higgsbench.metrics import (
    METRICS,
    Estimate,
    Metric,
    Scored,
    ams_estimate,
    mean_estimate,
    paired_difference,
    roc_auc,
)
from higgsbench.metrics.ams import ams_scan, raw_ams
from higgsbench.metrics.estimates import selected_sums, suffixed
from higgsbench.metrics.spectators import metric_of, spectator_metrics
from higgsbench.metrics.weights import evaluation_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csc_array

    from higgsbench.metrics import ProcessMetrics
    from higgsbench.metrics.weights import Bools, Floats, Ints

__all__ = ["METRICS_VERSION", "REPLICAS", "Replicas", "RowMetrics", "Truth", "bootstrap_rows", "estimates",
           "evaluate_held_out", "evaluate_row", "paired", "paired_error", "poisson_counts"]  # fmt: skip

METRICS_VERSION = 4
"""Incremented whenever a definition changes; rows of different versions are never ranked together."""

REPLICAS = 200
"""The standard error of a standard error from B replicas is 1 / sqrt(2 B): 5% at 200."""

_OTHERS = 8
_SEED = 20140912
_REPLICAS_AT_ONCE = 50
_DRAWS_AT_ONCE = 1 << 23
_EVENTS_AT_ONCE = 1 << 13
_KEPT_DRAWS = 1 << 22
_AT_OTHERS = "at_others"
_AMS = METRICS["ams"].key
_STEPS = 1 << 16
_DRAWN_AT_ONCE = 1 << 18
"""Numbers drawn at a time; even, because numpy takes two numbers from one word, so that parts equal the whole."""


@functools.cache
def _numbers() -> NDArray[np.uint8]:
    """Return the Poisson(1) number of each of 65,536 equally likely integers; the largest is 7."""
    below = np.cumsum([math.exp(-1.0) / math.factorial(k) for k in range(8)])
    edges = np.append(np.round(below[:-1] * _STEPS), _STEPS)
    return np.searchsorted(edges, np.arange(_STEPS), side="right").astype(np.uint8)


def poisson_counts(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Draw independent Poisson(1) numbers, the large-sample form of resampling with replacement.

    A table of 65,536 entries is several times faster than `Generator.poisson`. Its mean is right to 2e-5 and its
    variance to 3e-4, far below the uncertainty of an error from any affordable number of replicas.
    """
    out = np.empty(math.prod(shape), dtype=np.uint8)
    # In parts, because numpy widens the indices to 8 bytes: all at once would take 11 bytes per number.
    for first in range(0, out.size, _DRAWN_AT_ONCE):
        part = out[first : first + _DRAWN_AT_ONCE]
        np.take(_numbers(), rng.integers(0, _STEPS, size=part.size, dtype=np.uint16), out=part)
    return out.reshape(shape)


@dataclass(frozen=True)
class Replicas:
    """Bootstrap replicas of the metrics of a row.

    Attributes:
        values: (replicas,) by key of the metric; at cuts chosen anew where the metric depends on a cut.
        at_others: (1 + others, replicas) AMS of the sample's own events at the cuts of the replica, then of the
            replica's events at the cuts of each of some other replicas; no others where there are too few replicas.
    """

    values: dict[str, Floats]
    at_others: Floats

    @property
    def ams_cv(self) -> Floats:
        """Cross-validated AMS, cuts chosen anew."""
        return self.values[_AMS]

    def columns(self, row: str) -> dict[str, Floats]:
        """Return the columns that a file keeps for a row: `METRIC:ROW`, and `at_others:ROW` with two dimensions."""
        out = {f"{key}:{row}": values for key, values in self.values.items()}
        return out | {f"{_AT_OTHERS}:{row}": np.ascontiguousarray(self.at_others.T)}

    @classmethod
    def from_columns(cls, row: str, columns: Mapping[str, NDArray[Any]]) -> Replicas | None:
        """Make replicas from what `columns` returned; None if the AMS is missing or a column does not hold floats."""
        found = {metric.key: columns.get(f"{metric.key}:{row}") for metric in METRICS.values()}
        values = {key: v for key, v in found.items() if v is not None}
        if _AMS not in values or any(v.dtype != np.float64 or v.ndim != 1 for v in values.values()):
            return None
        others = columns.get(f"{_AT_OTHERS}:{row}")
        if others is None or others.ndim != 2 or others.dtype != np.float64:
            others = np.zeros((values[_AMS].size, 1))  # runs of earlier versions
        return cls(values, np.ascontiguousarray(others.T))


def paired_error(a: Replicas, b: Replicas, key: str = _AMS) -> float:
    """Return the standard error of the difference of two rows in a metric that the bootstrap resamples.

    For the AMS, the scatter of the replicas' difference counts one contribution twice. The AMS curve of a sample is the
    true curve A with accidental bumps N, and a replica adds its own: A + N + N*. When the cut moves from replica to
    replica, it follows both N, which all of them share, and N*; in a fresh sample it follows that sample's bumps alone.
    Cuts of other replicas, which do not know N*, measure the excess: there the events of a replica vary by var(A + N +
    N*), those of the sample by var(A + N), and N* is as large as N. The difference of the two is subtracted, but never
    more than half. Both variances are means over several cuts, because those from one pair of cuts per replica scatter
    so much that the subtraction would be too large on average.

    Both rows must come from the same draws.
    """
    whole = float(np.var(a.values[key] - b.values[key], ddof=1))
    kept = min(len(a.at_others), len(b.at_others))
    if key != _AMS or kept < 3:
        return float(np.sqrt(whole))
    sample, others = np.split(a.at_others[:kept] - b.at_others[:kept], [1])
    twice = float(np.mean(np.var(others, axis=0, ddof=1)) - np.var(sample, ddof=1))
    return float(np.sqrt(whole - min(max(twice, 0.0), 0.5 * whole)))


def bootstrap_rows(rows: Sequence[tuple[Floats, Truth]], replicas: int = REPLICAS) -> list[Replicas]:
    """Bootstrap rows on the same events with the same draws; the replicas of a row are means over its repeats.

    A row is given by its scores (repeats, n) and their truth; folds and rules may differ.
    """
    n = rows[0][1].y.size
    parts = -(-replicas // max(_OTHERS + 2, min(_REPLICAS_AT_ONCE, _DRAWS_AT_ONCE // max(n, 1))))
    others = min(_OTHERS, replicas // parts - 1)
    found = [[_Repeat(*row, r, replicas, others) for r in range(len(row[0]))] for row in rows]
    repeats = [repeat for own in found for repeat in own]
    rng = np.random.default_rng(_SEED)
    # How often each replica draws each event, (replicas, n).
    whole = poisson_counts(rng, (replicas, n)) if n * replicas <= _KEPT_DRAWS else None
    for indices in np.array_split(np.arange(replicas), parts):
        part = slice(int(indices[0]), int(indices[-1]) + 1)
        drawn = poisson_counts(rng, (indices.size, n)) if whole is None else whole[part]
        sums = [np.zeros((repeat.moments[0].shape[0], indices.size)) for repeat in repeats]
        for i, at in enumerate(_slices(n)):
            # Transposed as bytes, which is cheaper than as float64.
            counts = np.ascontiguousarray(drawn[:, at].T).astype(np.float64)
            for own_sums, repeat in zip(sums, repeats, strict=True):
                own_sums += repeat.moments[i] @ counts
        for own_sums, repeat in zip(sums, repeats, strict=True):
            repeat.take(own_sums, part)
    return [
        Replicas(
            {key: np.asarray(np.mean([repeat.values[key] for repeat in own], axis=0)) for key in own[0].values},
            np.asarray(np.mean([repeat.at_others for repeat in own], axis=0)),
        )
        for own in found
    ]


class _Repeat:
    """One repeat of one row: its events in cells of class x bin x fold, and the replicas of its metrics."""

    def __init__(self, scores: Floats, truth: Truth, repeat: int, replicas: int, others: int) -> None:
        self.truth = truth
        folds = int(truth.fold.max()) + 1
        self.shape = (2, BINS, folds)
        score = scores[repeat]
        # By descending rank; tied scores share the bin of the first of them.
        above = score.size - np.searchsorted(np.sort(score), score, side="right")
        cell = (truth.y.astype(np.int64) * BINS + (above * BINS) // score.size) * folds + truth.fold[repeat]
        self.moments = [_moments(cell[at], truth.weight[at], 2 * BINS * folds) for at in _slices(cell.size)]
        sums = np.asarray(np.bincount(cell, truth.weight, 2 * BINS * folds), dtype=np.float64)
        self.sample: Floats = np.cumsum(sums.reshape(1, *self.shape), axis=2)
        self.values = {metric.key: np.empty(replicas) for metric in METRICS.values() if metric.resampled}
        self.at_others = np.empty((1 + others, replicas))

    def take(self, sums: Floats, part: slice) -> None:
        """Add the replicas of a part; `sums` is (2 cells, replicas of the part)."""
        truth = self.truth
        first, second = np.moveaxis(np.ascontiguousarray(sums.T).reshape(-1, 2, *self.shape), 1, 0)
        pooled = first.sum(axis=3)
        # The cut of each fold (replicas, fold) is chosen on the other folds.
        squares = second.sum(axis=3)
        rest = ((pooled - first[..., k], squares - second[..., k]) for k in range(first.shape[3]))
        curves = (cuts.BinnedCurves(*sums, truth) for sums in rest)
        at = np.stack([cuts.choose_bins(curve, truth.rule) for curve in curves], axis=1)
        running: Floats = np.cumsum(first, axis=2) * cuts.scale_to_totals(pooled, truth.totals)[..., None]
        s, b = _selected_at(running, at)
        for metric in METRICS.values():
            if metric.of_counts is not None:
                self.values[metric.key][part] = metric.of_counts(s, b, truth.b_reg)
            elif metric.of_bins is not None:
                self.values[metric.key][part] = metric.of_bins(pooled)
        self.at_others[0, part] = raw_ams(*_selected_at(self.sample, at), truth.b_reg)
        for other in range(1, len(self.at_others)):
            self.at_others[other, part] = raw_ams(*_selected_at(running, np.roll(at, other, axis=0)), truth.b_reg)


def _slices(n: int) -> list[slice]:
    """Divide n events into parts; the draws of one part at a time are in memory as float64, eight times their size."""
    return [slice(first, first + _EVENTS_AT_ONCE) for first in range(0, n, _EVENTS_AT_ONCE)]


def _moments(cell: Ints, weight: Floats, cells: int) -> csc_array:
    """Return the matrix (2 cells, n) that sums weights and, below them, squared weights per cell.

    Its columns are the events, so that a product reads the draws once and in order.
    """
    from scipy.sparse import csc_array

    rows = np.column_stack([cell, cell + cells]).astype(np.int32)
    values = np.column_stack([weight, weight**2])
    starts = np.arange(0, 2 * cell.size + 1, 2, dtype=np.int32)
    return csc_array((values.ravel(), rows.ravel(), starts), shape=(2 * cells, cell.size))


def _selected_at(running: Floats, at: NDArray[np.intp]) -> tuple[Floats, Floats]:
    """Pool s and b (replicas,) of cumulative sums (replicas or 1, class, bin, fold) at cuts (replicas, fold)."""
    shape = (at.shape[0], *running.shape[1:])
    selected = np.take_along_axis(np.broadcast_to(running, shape), at[:, None, None, :], axis=2)[:, :, 0]
    b, s = np.maximum(selected.sum(axis=2), 0.0).T
    return s, b


@dataclass(frozen=True)
class RowMetrics:
    """Metrics of one row, means over repeats.

    Attributes:
        estimates: the metrics by name; an error at fixed cut leaves out the choice of the cut, see `se`.
        s: selected signal, b: selected background, fraction: selected share of events, all at the honest cuts.
        oof_max: AMS of the best cut on the pooled out-of-fold scores themselves (optimistic).
        oof_max_se: its standard error at fixed cut.
        cut: the frozen cut, chosen by the rule on all out-of-fold scores; its threshold is the mean over repeats.
        replicas: bootstrap replicas, for paired differences to other rows on the same events.
        selected: (repeats, n) the honest selection.
        processes: numbers of each process in the selection; empty if the processes are not known.
        name: the row's name, if several rows are compared.
    """

    estimates: dict[str, Estimate]
    s: float
    b: float
    fraction: float
    oof_max: float
    oof_max_se: float
    cut: Cut
    replicas: Replicas
    selected: Bools
    processes: dict[str, ProcessMetrics] = field(default_factory=dict)
    name: str = ""

    def value(self, name: str) -> float:
        """Return a metric by name."""
        return self.estimates[name].value

    def se(self, name: str) -> float:
        """Return the standard error of a metric; at the honest cut it includes the choice of the cuts."""
        record = metric_of(name)
        return float(np.std(self.replicas.values[record.key], ddof=1)) if record.needs_cut else self.estimates[name].se

    def record(self) -> dict[str, Any]:
        """Return all numbers by the names that rows and leaderboards use."""
        out: dict[str, Any] = {}
        for name, found in self.estimates.items():
            key = metric_of(name).key
            out |= {key: self.value(name), suffixed(key, "se"): self.se(name)}
            if len(found.repeats) > 1:
                spread = float(np.std(found.repeats, ddof=1))
                out |= {suffixed(key, "spread"): spread, suffixed(key, "repeats"): list(found.repeats)}
            if name == "ams":
                out |= {"s": self.s, "b": self.b, "fraction": self.fraction}
                out |= {"ams_oof_max": self.oof_max, "ams_oof_max_se": self.oof_max_se}
        for process, kept in self.processes.items():
            out |= kept.record(process)
        return out

    def without_events(self) -> RowMetrics:
        """Return the metrics without the contributions of events, which take 25 bytes per event and row of a run."""
        kept = {name: e.without_events() for name, e in self.estimates.items()}
        return replace(self, estimates=kept, selected=self.selected[:, :0].copy(), processes={})


def paired(a: RowMetrics, b: RowMetrics, name: str) -> tuple[float, float]:
    """Return the difference a - b of two rows on the same events in a metric, and its paired standard error."""
    if not metric_of(name).needs_cut:
        return paired_difference(a.estimates[name], b.estimates[name])
    return a.value(name) - b.value(name), paired_error(a.replicas, b.replicas, METRICS[name].key)


def estimates(
    scores: Floats, truth: Truth, metrics: Sequence[Metric], selected: Sequence[Bools] | Bools | None = None
) -> dict[str, Estimate]:
    """Compute metrics on out-of-fold scores and return their means over repeats by name.

    Args:
        scores: (repeats, n) log-odds in physical normalisation.
        truth: labels, weights, folds and rule.
        metrics: records of the metrics wanted; one at the honest cut needs two folds.
        selected: the honest selection (n,) of each repeat, where it is known.
    """
    if selected is None and any(metric.needs_cut for metric in metrics):
        selected = [cross_validated_selection(score, truth, r) for r, score in enumerate(scores)]
    events = [
        Scored(truth.y, score, truth.weight, truth.b_reg, None if selected is None else selected[r], truth.spectators)
        for r, score in enumerate(scores)
    ]
    return {metric.name: mean_estimate([metric.estimate(e) for e in events]) for metric in metrics}


def evaluate_row(scores: Floats, truth: Truth) -> RowMetrics:
    """Compute the metrics of a row from its out-of-fold log-odds (repeats, n) in physical normalisation."""
    metrics = [metric for metric in METRICS.values() if metric.headline]
    metrics += [metric for column in truth.spectators for metric in spectator_metrics(column)]
    return evaluate_rows([(scores, truth)], metrics)[0]


def evaluate_rows(
    rows: Sequence[tuple[Floats, Truth]], metrics: Sequence[Metric], replicas: int = REPLICAS
) -> list[RowMetrics]:
    """Compute metrics of rows on the same events, with bootstrap replicas of the same draws; see `evaluate_row`."""
    found = [_evaluated(scores, truth, metrics) for scores, truth in rows]
    return [replace(row, replicas=drawn) for row, drawn in zip(found, bootstrap_rows(rows, replicas), strict=True)]


def _evaluated(scores: Floats, truth: Truth, metrics: Sequence[Metric]) -> RowMetrics:
    """Compute everything but the replicas."""
    selected = np.stack([cross_validated_selection(score, truth, r) for r, score in enumerate(scores)])
    s, b = np.mean([selected_sums(truth.y, own, truth.weight) for own in selected], axis=0)
    chosen = []
    for score in scores:
        curve = ams_scan(truth.y, score, truth.weight, truth.b_reg)
        chosen.append([choose_cut(curve, rule) for rule in ("max", truth.rule)])
    best, cut = (_mean_cut(own) for own in zip(*chosen, strict=True))
    return RowMetrics(
        estimates=estimates(scores, truth, metrics, selected),
        s=float(s),
        b=float(b),
        fraction=float(np.mean([own.mean() for own in selected])),
        oof_max=best.ams,
        oof_max_se=best.se,
        cut=cut,
        replicas=Replicas({}, np.empty((0, 0))),
        selected=selected,
        processes=truth.measured(scores, selected),
    )


def _mean_cut(found: Sequence[Cut]) -> Cut:
    names = ("threshold", "fraction", "ams", "se", "s", "b")
    return Cut(rule=found[0].rule, **{name: float(np.mean([getattr(c, name) for c in found])) for name in names})


def evaluate_held_out(
    y: Bools, weight: Floats, score: Floats, threshold: float, totals: tuple[float, float], b_reg: float
) -> tuple[Estimate, Estimate]:
    """Return AMS at the frozen cut and ROC AUC of held-out events (n,), weights rescaled to the reference totals."""
    w = evaluation_weights(y, weight, *totals)
    return ams_estimate(y, score >= threshold, w, b_reg)[0], roc_auc(y, score, w)
