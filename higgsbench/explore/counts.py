"""Weighted counts of a table in two passes, in memory that does not grow with the file, and results from the bins.

The first pass is a few lazy queries: how large each subset is, which groups there are, and a sample that decides the
bins. The second adds up weights part by part in the order of the rows. Polars could do that in one query, but its
streaming engine adds numbers in the order in which its threads finish, so that the same file would not give the same
last digits twice.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl
from threadpoolctl import threadpool_limits

from higgsbench.errors import DataError
from higgsbench.events.samples import mixed
from higgsbench.explore.result import Histogram
from higgsbench.features.quantity import raw_quantities
from higgsbench.metrics import roc_auc
from higgsbench.schema import UNITS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from higgsbench.events import Events
    from higgsbench.metrics.weights import Floats, Ints

BACKGROUND, SIGNAL, UNLABELLED = 0, 1, 2
CLASS_NAMES = ("background", "signal", "unlabelled")

FINE_BINS = 4096
FOLDS = 5
LABELS = 3
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
PART = 1 << 17
"""Rows that are counted at a time."""

_SAMPLE = 80_000
_MOST_GROUPS = 64
_SALT, _FOLD_SALT = 11, 23
_CENTRAL = (0.003, 0.98)
_FULL_TURN = 3.1425  # pi, and a little more because files round to three decimals
_CACHED = 1 << 12  # rows whose products stay in the processor's cache


def row_uniform(row: NDArray[np.uint64], salt: int) -> Floats:
    """(n,) numbers in [0, 1) that depend only on the position of a row and the salt."""
    state = mixed((row.astype(np.uint64) + np.uint64(salt << 40)) * np.uint64(0x9E3779B97F4A7C15))
    return (state >> np.uint64(11)).astype(np.float64) * 2.0**-53


class Table:
    """Events with their features, class, weight, group, subset and position.

    Args:
        events: the table.
        order: columns of the file that it came from, in their order there.

    Attributes:
        columns: names of the columns, in the order of the file.
        weight_column: column of the weights, or None where every event counts 1. The weight of the whole file is
            preferred, because a weight normalised within subsets would count the events of a small subset more.
        subset_column: column of the subsets, or None.
        query: the features as float64, NaN where missing, categories as positions, and the columns `~label`, `~weight`,
            `~group`, `~subset`.
    """

    def __init__(self, events: Events, order: Sequence[str] | None = None) -> None:
        events = events.with_categories()
        schema = events.schema
        self.events, self.schema, self.features = events, schema, list(schema.features)
        stored = events.lazy()
        names = stored.collect_schema().names()
        self.columns = tuple(name for name in order or names if name in names)
        weights = (schema.weight, schema.subset_weight)
        self.weight_column = next((name for name in weights if name in self.columns), None)
        self.subset_column = schema.subset if schema.subset in self.columns else None
        label = pl.col(schema.label) == schema.signal if schema.label in self.columns else pl.lit(UNLABELLED)
        weight = pl.lit(1.0) if self.weight_column is None else pl.col(self.weight_column)
        self.query = stored.select(
            *(q.expression.cast(pl.Float64).fill_null(float("nan")).alias(q.name) for q in raw_quantities(schema)),
            label.cast(pl.Int64).alias("~label"),
            weight.cast(pl.Float64).alias("~weight"),
            (pl.lit(0) if schema.group is None else pl.col(schema.group)).cast(pl.Int64).alias("~group"),
            (pl.lit("") if self.subset_column is None else pl.col(self.subset_column)).alias("~subset"),
        )

    def parts(self) -> Iterator[pl.DataFrame]:
        """Yield the table in the order of its rows."""
        for first in range(0, len(self.events), PART):
            row = pl.int_range(first, first + pl.len(), dtype=pl.UInt64).alias("~row")
            yield self.query.slice(first, PART).with_columns(row).collect()

    def sample(self, subsets: Sequence[str], size: int) -> pl.DataFrame:
        """Return at most `_SAMPLE` random rows of some subsets, which hold `size` rows in total."""
        rows = self.query.with_row_index("~row").filter(pl.col("~subset").is_in(list(subsets)))
        if size > _SAMPLE:
            key = pl.col("~row").map_batches(
                lambda row: pl.Series(row_uniform(row.to_numpy(), _SALT)), return_dtype=pl.Float64, is_elementwise=True
            )
            bound = rows.select(key.bottom_k(_SAMPLE).max()).collect(engine="streaming").item()
            rows = rows.filter(key <= bound)
        return rows.collect(engine="streaming")

    def groups(self) -> tuple[int, ...] | None:
        """Return the group numbers; None without a group column, or if it has too many values to be one."""
        if self.schema.group is None:
            return None
        found = self.query.select(pl.col("~group").unique().head(_MOST_GROUPS + 1)).collect(engine="streaming")
        return tuple(sorted(found.to_series())) if found.height <= _MOST_GROUPS else None


class Survey(NamedTuple):
    """What the first pass finds.

    Attributes:
        described: subsets whose events are described; an empty name where the file has no subsets.
        others: the file's other subsets, compared with the described ones.
        groups: distinct group numbers; None without a group column, or if it has too many values to be one.
        centre: (p,) mean of each feature in a sample of the described events; no printed number depends on it.
        fine: per feature, the edges that resolve distributions.
        display: per feature, the edges of the histogram that is shown; a subset of the fine edges.
        example: position of the feature used to show why splits must rescale weights, None without labels.
    """

    described: tuple[str, ...]
    others: tuple[str, ...]
    groups: tuple[int, ...] | None
    centre: Floats
    fine: tuple[Floats, ...]
    display: tuple[Floats, ...]
    example: int | None

    @classmethod
    def take(cls, table: Table, subsets: Sequence[str] | None) -> Survey:
        """Choose what the second pass counts; `subsets` as for `explore`.

        Raises:
            DataError: if there is no event in a requested subset, or no event at all.
        """
        sizes = dict(table.query.group_by("~subset").len().collect(engine="streaming").iter_rows())
        described, others = _choose(table, sizes, subsets)
        sample = table.sample(described, sum(sizes[name] for name in described))
        if not sample.height:
            raise DataError(f"{table.events.source}: no event to describe")
        x, label = sample.select(table.features).to_numpy().T, sample["~label"].to_numpy()
        display = []
        whole = {*table.schema.integers, *table.schema.categories}
        for name, values in zip(table.features, x, strict=True):
            display.append(display_edges(values, label, name in whole))
            if UNITS.get(name) == "rad" and np.nanmax(np.abs(values), initial=0.0) <= _FULL_TURN:
                display[-1] = np.linspace(-_FULL_TURN, _FULL_TURN, 33)
        fine = tuple(fine_edges(v, label, shown) for v, shown in zip(x, display, strict=True))
        present = ~np.isnan(x)
        centre = np.where(present, x, 0.0).sum(axis=1) / np.maximum(present.sum(axis=1), 1)
        example = _example(x, label, sample["~weight"].to_numpy())
        return cls(described, others, table.groups(), centre, fine, tuple(display), example)


def _choose(
    table: Table, sizes: dict[str, int], subsets: Sequence[str] | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    known = [name for name in table.schema.subset_values if name in sizes]
    known += sorted(name for name in sizes if name not in known)
    first = [name for name in table.schema.subset_values[:1] if name in sizes]
    for name in subsets or ():
        if table.subset_column is None:
            raise DataError(f"{table.events.source}: no subset column, so no subset {name!r} to describe")
        if name not in sizes:
            raise DataError(f"{table.events.source}: no event in subset {name!r}; it has {', '.join(known)}")
    described = tuple(dict.fromkeys(first or known if subsets is None else subsets))
    return described, tuple(name for name in known if name not in described)


def fine_edges(x: Floats, label: Ints, display: Floats, bins: int = FINE_BINS) -> Floats:
    """Return the edges that cut signal and background into parts of equal numbers of sampled events.

    All edges but those of the display are values that occur, so that repeated values can be counted exactly.
    """
    present = ~np.isnan(x)
    chosen, values, labels = [display], np.unique(x[present]), np.unique(label)
    if values.size <= bins:
        chosen.append(values)
    else:
        for ordered in (np.sort(x[present & (label == c)]) for c in labels):
            size = min(bins // labels.size, ordered.size)
            chosen.append(ordered[np.linspace(0, ordered.size - 1, size).astype(np.int64)])
    # Adding 0.0 makes -0.0 and 0.0 one edge.
    return np.unique(np.concatenate(chosen) + 0.0)


def display_edges(x: Floats, label: Ints, integer: bool, bins: int = 60) -> Floats:
    """Return at most about `bins` equal bins with round edges over the bulk of every class."""
    present = ~np.isnan(x)
    if not present.any():
        return np.array([0.0, 1.0])
    spans = [np.quantile(x[present & (label == c)], _CENTRAL) for c in np.unique(label[present])]
    low, high = float(min(s[0] for s in spans)), float(max(s[1] for s in spans))
    if integer and high - low < bins:
        return np.arange(math.floor(low), math.ceil(high) + 2, dtype=np.float64) - 0.5
    if high <= low:
        width = max(abs(low), 1.0)
        return np.array([low - 0.5 * width, low + 0.5 * width])
    raw = (high - low) / bins
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(f * power for f in (1.0, 2.0, 2.5, 5.0, 10.0) if f * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return np.arange(first, last + 1, dtype=np.float64) * step


def _example(x: Floats, label: Ints, weight: Floats) -> int | None:
    """Choose the feature with few missing values that separates best on its own, on the sampled events."""
    known = (label == SIGNAL) | (label == BACKGROUND)
    powers = {}
    for place, values in enumerate(x):
        present = known & ~np.isnan(values)
        y, w = label[present] == SIGNAL, weight[present]
        if present.sum() >= 0.9 * known.sum() and w[y].sum() > 0.0 and w[~y].sum() > 0.0:
            powers[place] = abs(roc_auc(y, values[present], w).value - 0.5)
    return max(powers, key=powers.__getitem__, default=None)


def pair_sums(x: Floats, w: Floats, centre: Floats) -> Floats:
    """Sum over the events in which both of two features are present, for every pair.

    Args:
        x: (p, n) values, NaN for missing.
        w: (n,) weights.
        centre: (p,) numbers near the means, which are subtracted from the values so that nothing cancels.

    Returns:
        (6, p, p) sums of 1, w, w^2, w x_i, w x_i^2 and w x_i x_j over the events with both i and j.
    """
    p = centre.size
    total = np.zeros((6, p, p))
    # On one thread, because BLAS splits such flat products badly and waits for busy cores.
    with threadpool_limits(limits=1, user_api="blas"):
        for first in range(0, w.size, _CACHED):
            part, weight = x[:, first : first + _CACHED], w[first : first + _CACHED]
            missing = np.isnan(part)
            there = (~missing).astype(np.float64)
            d = np.where(missing, 0.0, part - centre[:, None])
            weighted, of_weight = d * weight, there * weight
            left = np.concatenate([there, of_weight, of_weight * weight, weighted, d * weighted])
            total[:5] += (left @ there.T).reshape(5, p, p)
            total[5] += weighted @ d.T
    return total


class Tally:
    """All weighted counts from which the results are computed.

    A sample is 0 for the described events and 1, 2, ... for those compared with them. The bins of a feature with E
    edges are numbered 2 i for values between edges i - 1 and i, 2 i + 1 for values equal to edge i, and 2 E + 1 for
    missing: bins of one value carry no binning error.

    Attributes:
        bins: per feature (samples, labels, 2 E + 2, 3): events, sum of weights, sum of squared weights.
        totals: (samples, labels, 3): the same for all events, independent of features.
        groups: (groups, labels, 3): the same for the described events of each group.
        missing: (groups, labels, 2, p): events and weights with a missing value among the described.
        low, high: (labels, p) smallest and largest value among the described, infinite where there is none.
        weight_range: (labels, 2) smallest and largest weight of the described; `negative` counts those below zero.
        pairs: (labels, 6, p, p) sums over pairs of features among the described, see `pair_sums`.
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
        self.pairs = np.zeros((LABELS, 6, p, p))
        size = 0 if survey.example is None else 2 * survey.fine[survey.example].size + 2
        self.folds = np.zeros((FOLDS, 2, size, 3))

    def add(self, frame: pl.DataFrame, sample: Ints) -> None:
        """Count a part of a `Table`; `sample` (n,) says to which sample each row belongs."""
        label, w = frame["~label"].to_numpy(), frame["~weight"].to_numpy()
        kind, described = sample * LABELS + label, sample == 0
        self.totals += _counted(kind, w, self.totals.shape)
        place = np.zeros_like(label)
        if self.survey.groups:
            place = np.where(described, np.searchsorted(np.array(self.survey.groups), frame["~group"].to_numpy()), 0)
        group = place * LABELS + label
        self.groups += _counted(group[described], w[described], self.groups.shape)
        for i, (name, edges, bins) in enumerate(zip(frame.columns, self.survey.fine, self.bins, strict=False)):
            at = bin_numbers(frame[name].to_numpy(), edges)
            bins += _counted(kind * bins.shape[2] + at, w, bins.shape)
            gone = described & (at == bins.shape[2] - 1)
            self.missing[..., i] += _counted(group[gone], w[gone], self.groups.shape)[..., :2]
            if i == self.survey.example:
                fold = (row_uniform(frame["~row"].to_numpy(), _FOLD_SALT) * FOLDS).astype(np.int64)
                known = described & (label != UNLABELLED)
                code = (fold * 2 + label) * bins.shape[2] + at
                self.folds += _counted(code[known], w[known], self.folds.shape)
        for c in np.unique(label[described]).tolist():
            chosen = described & (label == c)
            x = np.asfortranarray(frame.filter(chosen).select(frame.columns[: len(self.bins)]).to_numpy().T)
            self.pairs[c] += pair_sums(x, w[chosen], self.survey.centre)
            self.low[c] = np.fmin(self.low[c], np.fmin.reduce(x, axis=1))
            self.high[c] = np.fmax(self.high[c], np.fmax.reduce(x, axis=1))
            low, high = self.weight_range[c]
            self.weight_range[c] = min(low, w[chosen].min()), max(high, w[chosen].max())
            self.negative[c] += np.count_nonzero(w[chosen] < 0.0)


def bin_numbers(x: Floats, edges: Floats) -> Ints:
    """Return the bin of each value; NaN, which sorts last, falls into the last bin."""
    at = np.searchsorted(edges, x)
    inside = np.minimum(at, edges.size - 1)
    number: Ints = 2 * at + (edges[inside] == x)
    number[np.isnan(x)] = 2 * edges.size + 1
    return number


def _counted(code: Ints, w: Floats, shape: tuple[int, ...]) -> Floats:
    """Return events, weights and squared weights of each code, in an array of the given shape (..., 3)."""
    size = math.prod(shape[:-1])
    sums = (np.bincount(code, weights=weights, minlength=size) for weights in (None, w, w * w))
    return np.stack([total.astype(np.float64) for total in sums], axis=1).reshape(shape)


def binned_auc(background: Floats, signal: Floats) -> tuple[float, float, float] | None:
    """Weighted AUC from ordered bins (bins, 3) of each class, events in one bin counting as ties.

    Pairs in one bin count one half where the exact value is 0 or 1, hence an error of at most half the product of the
    two shares, summed over the open bins (even numbers). The bound holds for weights that are not negative.

    Returns:
        The AUC, its standard error and the largest error that binning can have caused, or None if a class has no
        positive weight.
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
    return value, float(np.sqrt(variance)), 0.5 * float(np.sum(inexact))


def quantiles(weights: Floats, edges: Floats, low: float, high: float) -> tuple[float, ...]:
    """Weighted quantiles of values from `low` to `high`, linear inside a bin, from the weights (2 E + 1,) in bins."""
    wanted = np.array(QUANTILES) * float(weights.sum())
    if not wanted[0] > 0.0:
        return (float("nan"),) * len(QUANTILES)
    walls = np.repeat(edges, 2)  # a bin of a single value begins and ends there
    left, right = np.maximum(low, np.append(low, walls)), np.minimum(high, np.append(walls, high))
    reached = np.maximum.accumulate(np.cumsum(weights))
    at = np.minimum(np.searchsorted(reached, wanted), weights.size - 1)
    before = np.append(0.0, reached)[at]
    inside = reached[at] - before
    part = np.divide(wanted - before, inside, out=np.full(at.size, 0.5), where=inside > 0.0)
    return tuple((left[at] + part * (right[at] - left[at])).tolist())


def histogram(bins: Floats, fine: Floats, display: Floats, scale: float) -> Histogram:
    """Sum fine bins to the displayed ones, [low, high) each, the last one closed; exact, as the edges are shared."""
    start = 2 * np.searchsorted(fine, display) + 1
    start[-1] += 1  # the last bin includes its upper edge
    shown = [bins[first:last] for first, last in pairwise(start.tolist())]
    values = tuple(scale * float(part[:, 1].sum()) for part in shown)
    variances = tuple(scale**2 * float(part[:, 2].sum()) for part in shown)
    below, above = (scale * float(part[:, 1].sum()) for part in (bins[: start[0]], bins[start[-1] : -1]))
    return Histogram(values, variances, below, above)


def ks_distance(first: Floats, second: Floats) -> tuple[float, float] | None:
    """Kolmogorov-Smirnov distance of two sets of bin contents, and the largest error binning can have caused."""
    total, other = float(first.sum()), float(second.sum())
    if not (total > 0.0 and other > 0.0):
        return None
    f, g = first / total, second / other
    distance = float(np.max(np.abs(np.cumsum(f) - np.cumsum(g))))
    # Inside an open bin the two curves can separate by at most the larger of the two shares in it.
    error = float(np.max(np.maximum(np.abs(f), np.abs(g))[0::2], initial=0.0))
    return distance, error
