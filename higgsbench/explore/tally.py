"""Second pass: weighted counts of everything, in one reading, in memory that does not grow with the file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from higgsbench.explore.batch import BACKGROUND, SIGNAL, row_uniform

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from higgsbench.explore.batch import Batch
    from higgsbench.explore.survey import Survey

__all__ = ["FOLDS", "LABELS", "PairSums", "Tally"]

FOLDS = 5
LABELS = 3
_PART = 1 << 12
_SALT = 23


class PairSums:
    """Weighted sums over the events in which both of two features are present, for every pair.

    Values are taken relative to a centre near the mean, so that nothing cancels. Entry (i, j) of `x` is the sum of
    w x_i over events with both i and j; the diagonals are the sums of a feature by itself.
    """

    def __init__(self, centre: NDArray[np.float64]) -> None:
        self.centre = centre
        shape = (centre.size, centre.size)
        self.n, self.w, self.w2, self.x, self.xx, self.xy = (np.zeros(shape) for _ in range(6))

    def add(self, x: NDArray[np.float64], w: NDArray[np.float64]) -> None:
        """Count events, given as (p, n) values with NaN for missing and (n,) weights."""
        p = self.centre.size
        # Parts that stay in the cache, on one thread: BLAS splits such flat products badly, and waits for busy cores.
        with threadpool_limits(limits=1, user_api="blas"):
            for first in range(0, w.size, _PART):
                part = x[:, first : first + _PART]
                weight = w[first : first + _PART]
                missing = np.isnan(part)
                there = (~missing).astype(np.float64)
                d = np.where(missing, 0.0, part - self.centre[:, None])
                weighted = d * weight
                of_weight = there * weight
                left = np.concatenate([there, of_weight, of_weight * weight, weighted, d * weighted])
                sums = (left @ there.T).reshape(5, p, p)
                for total, more in zip((self.n, self.w, self.w2, self.x, self.xx), sums, strict=True):
                    total += more
                self.xy += weighted @ d.T

    def combined(self, other: PairSums, scale: float, other_scale: float) -> PairSums:
        """Sums over the union of two sets of events, each with its weights rescaled."""
        both = PairSums(self.centre)
        both.n = self.n + other.n
        both.w2 = scale**2 * self.w2 + other_scale**2 * other.w2
        for name in ("w", "x", "xx", "xy"):
            setattr(both, name, scale * getattr(self, name) + other_scale * getattr(other, name))
        return both


class Tally:
    """All weighted counts that the results are made of.

    A sample is 0 for the described events and 1, 2, ... for those compared with them. The bins of a feature with E
    edges are numbered 2 i for values between edges i - 1 and i, 2 i + 1 for values equal to edge i, and 2 E + 1 for
    missing: bins of one value carry no binning error.

    Attributes:
        bins: per feature (samples, labels, 2 E + 2, 3): events, sum of weights, sum of squared weights.
        totals: (samples, labels, 3): the same without regard to features.
        groups: (groups, labels, 3): the same for the described events of each group.
        missing: (groups, labels, 2, p): events and weights with a missing value among the described.
        low, high: (labels, p) smallest and largest value among the described, infinite where there is none.
        weight_range: (labels, 2) smallest and largest weight of the described; `negative` counts those below zero.
        pairs: per label, sums over pairs of features among the described.
        folds: (FOLDS, 2, 2 E + 2, 3) the bins of the example feature in random fifths of the described events.
    """

    def __init__(self, survey: Survey, samples: int) -> None:
        self.survey = survey
        p = len(survey.fine)
        n_groups = len(survey.groups) if survey.groups else 1
        self.bins = [np.zeros((samples, LABELS, 2 * e.size + 2, 3)) for e in survey.fine]
        self.totals = np.zeros((samples, LABELS, 3))
        self.groups = np.zeros((n_groups, LABELS, 3))
        self.missing = np.zeros((n_groups, LABELS, 2, p))
        self.low, self.high = np.full((LABELS, p), np.inf), np.full((LABELS, p), -np.inf)
        self.weight_range = np.tile([np.inf, -np.inf], (LABELS, 1))
        self.negative = np.zeros(LABELS)
        present = ~np.isnan(survey.sample.x)
        sums = np.where(present, survey.sample.x, 0.0).sum(axis=1)
        centre = sums / np.maximum(present.sum(axis=1), 1)
        self.pairs = [PairSums(centre) for _ in range(LABELS)]
        size = 0 if survey.example is None else 2 * survey.fine[survey.example].size + 2
        self.folds = np.zeros((FOLDS, 2, size, 3))

    def add(self, batch: Batch, sample: int) -> None:
        """Count the rows of a batch, all of one sample."""
        if len(batch) == 0:
            return
        label, w = batch.label.astype(np.int64), batch.weight
        w2 = w * w
        self.totals[sample] += _counted(label, w, w2, LABELS)
        for place, (x, edges) in enumerate(zip(batch.x, self.survey.fine, strict=True)):
            size = 2 * edges.size + 2
            at = bin_numbers(x, edges)
            self.bins[place][sample] += _counted(label * size + at, w, w2, LABELS * size).reshape(LABELS, size, 3)
            if sample == 0 and place == self.survey.example:
                self._add_folds(batch, at, w2)
        if sample == 0:
            self._describe(batch, w2)

    def _add_folds(self, batch: Batch, at: NDArray[np.int64], w2: NDArray[np.float64]) -> None:
        fold = (row_uniform(batch.row, _SALT) * FOLDS).astype(np.int64)
        known = (batch.label == SIGNAL) | (batch.label == BACKGROUND)
        size = self.folds.shape[2]
        code = ((fold * 2 + batch.label) * size + at)[known]
        self.folds += _counted(code, batch.weight[known], w2[known], FOLDS * 2 * size).reshape(self.folds.shape)

    def _describe(self, batch: Batch, w2: NDArray[np.float64]) -> None:
        groups = self.survey.groups
        place = np.zeros(len(batch), np.int64)
        if groups and batch.group is not None:
            place = np.searchsorted(np.array(groups), batch.group)
        code = place * LABELS + batch.label
        self.groups += _counted(code, batch.weight, w2, self.groups.size // 3).reshape(self.groups.shape)
        for label in np.unique(batch.label):
            rows = batch.label == label
            part = batch.take(rows)
            self.pairs[label].add(part.x, part.weight)
            self.low[label] = np.fmin(self.low[label], np.fmin.reduce(part.x, axis=1))
            self.high[label] = np.fmax(self.high[label], np.fmax.reduce(part.x, axis=1))
            low, high = self.weight_range[label]
            self.weight_range[label] = min(low, part.weight.min()), max(high, part.weight.max())
            self.negative[label] += np.count_nonzero(part.weight < 0.0)
            gone = np.isnan(part.x)
            for g in np.unique(place[rows]):
                of_group = place[rows] == g
                self.missing[g, label, 0] += gone[:, of_group].sum(axis=1)
                self.missing[g, label, 1] += gone[:, of_group] @ part.weight[of_group]


def bin_numbers(x: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the bin of each value; NaN, which sorts last, falls into the last bin."""
    at = np.searchsorted(edges, x)
    inside = np.minimum(at, edges.size - 1)
    number: NDArray[np.int64] = 2 * at + (edges[inside] == x)
    number[np.isnan(x)] = 2 * edges.size + 1
    return number


def _counted(
    code: NDArray[np.int64], w: NDArray[np.float64], w2: NDArray[np.float64], size: int
) -> NDArray[np.float64]:
    """(size, 3) events, weights and squared weights of each code."""
    return np.stack(
        [
            np.bincount(code, minlength=size).astype(np.float64),
            np.bincount(code, weights=w, minlength=size),
            np.bincount(code, weights=w2, minlength=size),
        ],
        axis=1,
    )
