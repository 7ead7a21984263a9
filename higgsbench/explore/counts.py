"""Weighted counts of a table in two passes, in memory that does not grow with the file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import polars as pl
from threadpoolctl import threadpool_limits

from higgsbench.errors import DataError
from higgsbench.events.read import normalised
from higgsbench.events.simulate import OFFICIAL_COLUMNS, SimulationSettings, simulate_batches
from higgsbench.metrics import roc_auc
from higgsbench.schema import ATLAS_HIGGS, UNITS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import polars as pl
    from numpy.typing import NDArray

    from higgsbench.schema import TableSchema

__all__ = [
    "ALL",
    "BACKGROUND",
    "CLASS_NAMES",
    "FOLDS",
    "LABELS",
    "SIGNAL",
    "UNLABELLED",
    "Batch",
    "PairSums",
    "SimulatedStream",
    "Source",
    "Stream",
    "Survey",
    "Tally",
    "display_edges",
    "fine_edges",
    "row_uniform",
    "take_survey",
]


BACKGROUND, SIGNAL, UNLABELLED = 0, 1, 2
CLASS_NAMES = ("background", "signal", "unlabelled")

_KEEP_BYTES = 1 << 29
_MASK = np.uint64(0xFFFFFFFFFFFFFFFF)


@dataclass(frozen=True)
class Batch:
    """Rows of one event file.

    Attributes:
        x: (p, n) features in schema order, NaN where missing.
        label: (n,) BACKGROUND, SIGNAL or UNLABELLED.
        weight: (n,) event weights as stored; 1 where the file has none.
        group: (n,) group numbers, or None where the layout has no groups.
        subset: (n,) subset names, or None where the file names none.
        row: (n,) positions of the rows in the file.
    """

    x: NDArray[np.float64]
    label: NDArray[np.int8]
    weight: NDArray[np.float64]
    group: NDArray[np.int64] | None
    subset: NDArray[np.object_] | None
    row: NDArray[np.int64]

    def __len__(self) -> int:
        return self.weight.size

    def take(self, rows: NDArray[np.bool_]) -> Batch:
        """Return the chosen rows."""
        if rows.all():
            return self
        group = None if self.group is None else self.group[rows]
        subset = None if self.subset is None else self.subset[rows]
        return Batch(self.x[:, rows], self.label[rows], self.weight[rows], group, subset, self.row[rows])


def row_uniform(row: NDArray[np.int64], salt: int) -> NDArray[np.float64]:
    """(n,) numbers in [0, 1) that depend on the row's position and the salt only, not on how a file is cut up.

    The mixing function is SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
    """
    state = row.astype(np.uint64) + np.uint64((salt << 40) + 1)
    state = state * np.uint64(0x9E3779B97F4A7C15) & _MASK
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    state ^= state >> np.uint64(31)
    return (state >> np.uint64(11)).astype(np.float64) * 2.0**-53


class Stream(Protocol):
    """What can be explored: parts of a table, readable from the start any number of times (`events.EventStream`)."""

    source: str
    schema: TableSchema
    columns: tuple[str, ...]

    def batches(self, *, check: bool = True) -> Iterator[pl.DataFrame]:
        """Yield the parts, missing values as null."""


class Source:
    """A stream of batches that can be read twice; a file that fits is kept in memory after the first reading."""

    def __init__(self, stream: Stream, keep_bytes: int = _KEEP_BYTES) -> None:
        self.stream = stream
        self.schema: TableSchema = stream.schema
        self.keep_bytes = keep_bytes
        self._kept: list[Batch] | None = []
        self._complete = False

    @property
    def weight_column(self) -> str | None:
        """Column of the weights, or None where every event counts 1.

        The weight of the whole file comes first: a weight normalised within subsets would count the events of a small
        subset more.
        """
        for name in (self.schema.weight, self.schema.subset_weight):
            if name is not None and name in self.stream.columns:
                return name
        return None

    def __iter__(self) -> Iterator[Batch]:
        if self._complete and self._kept is not None:
            yield from self._kept
            return
        check, size, first_row = not self._complete, 0, 0
        self._kept = [] if check else None
        for frame in self.stream.batches(check=check):
            batch = self._batch(frame, first_row)
            first_row += len(batch)
            size += batch.x.nbytes + 32 * len(batch)
            if size > self.keep_bytes:
                self._kept = None
            elif self._kept is not None:
                self._kept.append(batch)
            yield batch
        self._complete = True

    def _batch(self, frame: pl.DataFrame, first_row: int) -> Batch:
        schema, n = self.schema, frame.height
        features = frame.select(pl.col(schema.features).cast(pl.Float64).fill_null(float("nan")))
        x = np.ascontiguousarray(features.to_numpy().T)
        label = np.full(n, UNLABELLED, dtype=np.int8)
        if schema.label in frame.columns:
            label = (frame[schema.label] == schema.signal).to_numpy().astype(np.int8)
        weight = np.ones(n)
        if self.weight_column is not None:
            weight = frame[self.weight_column].to_numpy().astype(np.float64)
        group = None if schema.group is None else frame[schema.group].cast(pl.Int64).to_numpy()
        subset = None
        if schema.subset is not None and schema.subset in frame.columns:
            subset = frame[schema.subset].to_numpy()
        return Batch(x, label, weight, group, subset, np.arange(first_row, first_row + n))


class SimulatedStream:
    """Events of the built-in toy simulation, made while they are read."""

    def __init__(self, settings: SimulationSettings) -> None:
        self.settings = settings
        self.schema = ATLAS_HIGGS
        self.columns: tuple[str, ...] = tuple(OFFICIAL_COLUMNS)
        self.source = f"toy simulation ({settings.events} events, seed {settings.seed})"

    def batches(self, *, check: bool = True) -> Iterator[pl.DataFrame]:
        """Yield the parts, missing values as null.

        Args:
            check: without effect, as the simulation is trusted to follow its layout.
        """
        del check
        for frame in simulate_batches(self.settings):
            yield normalised(frame, self.schema)


ALL = ""
"""Key of the rows of a file without subsets."""

FINE_BINS = 4096
_RESERVOIR = 40_000
_MOST_GROUPS = 64
_SALT = 11
_CENTRAL = (0.003, 0.98)
_FULL_TURN = 3.1425  # pi, and what rounding to three decimals makes of it


@dataclass(frozen=True)
class Survey:
    """What the first pass learns.

    Attributes:
        rows: events in the file.
        counts: events in each subset, in the layout's order.
        described: subsets whose events are described.
        others: the file's other subsets, compared with the described ones.
        groups: distinct group numbers; None without a group column, or if it has too many values to be one.
        sample: random described events, the base of bins and of first guesses; never of a printed number.
        fine: per feature, the edges that resolve distributions.
        display: per feature, the edges of the histogram that is shown; a subset of the fine edges.
        example: position of the feature used to show why splits must rescale weights, None without labels.
    """

    rows: int
    counts: dict[str, int]
    described: tuple[str, ...]
    others: tuple[str, ...]
    groups: tuple[int, ...] | None
    sample: Batch
    fine: tuple[NDArray[np.float64], ...]
    display: tuple[NDArray[np.float64], ...]
    example: int | None


class _Reservoir:
    """A uniform random sample of rows: those with the smallest random numbers seen so far."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.parts: list[tuple[NDArray[np.float64], Batch]] = []
        self.held = 0
        self.bound = 1.0

    def add(self, key: NDArray[np.float64], batch: Batch) -> None:
        rows = key < self.bound
        if rows.any():
            self.parts.append((key[rows], batch.take(rows)))
            self.held += int(rows.sum())
        if self.held > 2 * self.size:
            keys = np.concatenate([k for k, _ in self.parts])
            self.bound = float(np.partition(keys, self.size)[self.size])
            self.parts = [(k[k < self.bound], b.take(k < self.bound)) for k, b in self.parts]
            self.held = sum(len(b) for _, b in self.parts)


def _joined(parts: Sequence[Batch]) -> Batch:
    x = np.concatenate([b.x for b in parts], axis=1)
    label = np.concatenate([b.label for b in parts])
    weight = np.concatenate([b.weight for b in parts])
    return Batch(x, label, weight, None, None, np.concatenate([b.row for b in parts]))


def take_survey(source: Source, subsets: Sequence[str] | None) -> Survey:
    """Read a file once and choose what the second pass counts.

    Args:
        source: the events.
        subsets: names of the subsets to describe; None takes the layout's first one (the training set) where the
            file has it, and otherwise all events.

    Raises:
        DataError: if the file is malformed or has no event in a subset that was asked for.
    """
    reservoirs: dict[str, _Reservoir] = {}
    counts: dict[str, int] = {}
    groups: set[int] = set()
    rows = 0
    for batch in source:
        rows += len(batch)
        key = row_uniform(batch.row, _SALT)
        names = [ALL] if batch.subset is None else sorted(set(batch.subset.tolist()))
        for name in names:
            of_name = np.ones(len(batch), np.bool_) if batch.subset is None else batch.subset == name
            counts[name] = counts.get(name, 0) + int(of_name.sum())
            reservoirs.setdefault(name, _Reservoir(_RESERVOIR)).add(key[of_name], batch.take(of_name))
        if batch.group is not None and len(groups) <= _MOST_GROUPS:
            groups.update(np.unique(batch.group).tolist())
    described, others = _choose(source, counts, subsets)
    sample = _joined([b for name in described for _, b in reservoirs[name].parts])
    named = zip(source.schema.features, sample.x, strict=True)
    display = tuple(_shown_edges(source.schema, name, x, sample.label) for name, x in named)
    fine = tuple(fine_edges(x, sample.label, shown) for x, shown in zip(sample.x, display, strict=True))
    known = source.schema.group is not None and len(groups) <= _MOST_GROUPS
    ordered = {name: counts[name] for name in (*described, *others)}
    distinct = tuple(sorted(groups)) if known else None
    return Survey(rows, ordered, described, others, distinct, sample, fine, display, _example(sample))


def _shown_edges(
    schema: TableSchema, name: str, x: NDArray[np.float64], label: NDArray[np.int8]
) -> NDArray[np.float64]:
    if UNITS.get(name) == "rad" and np.nanmax(np.abs(x), initial=0.0) <= _FULL_TURN:
        return np.linspace(-_FULL_TURN, _FULL_TURN, 33)
    return display_edges(x, label, name in schema.integers)


def _choose(
    source: Source, counts: dict[str, int], subsets: Sequence[str] | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    known = [name for name in source.schema.subset_values if name in counts]
    known += sorted(name for name in counts if name not in known)
    if subsets is None:
        first = source.schema.subset_values[:1]
        described = tuple(first) if first and first[0] in counts else tuple(known)
    else:
        for name in subsets:
            if ALL in counts:
                raise DataError(f"{source.stream.source}: no subset column, so no subset {name!r} to describe")
            if name not in counts:
                raise DataError(f"{source.stream.source}: no event in subset {name!r}; it has {', '.join(known)}")
        described = tuple(dict.fromkeys(subsets))
    return described, tuple(name for name in known if name not in described)


def fine_edges(
    x: NDArray[np.float64], label: NDArray[np.int8], display: NDArray[np.float64], bins: int = FINE_BINS
) -> NDArray[np.float64]:
    """Return the edges that cut signal and background into parts of equal numbers of sampled events.

    All edges but those of the display are values that occur, so that repeated values can be counted exactly.
    """
    present = ~np.isnan(x)
    classes = [np.sort(x[present & (label == c)]) for c in np.unique(label)]
    chosen = [display]
    values = np.unique(x[present])
    if values.size <= bins:
        chosen.append(values)
    else:
        per_class = bins // len(classes)
        for ordered in classes:
            if ordered.size:
                chosen.append(ordered[np.linspace(0, ordered.size - 1, min(per_class, ordered.size)).astype(np.int64)])
    # Adding 0.0 makes -0.0 and 0.0 one edge.
    return np.unique(np.concatenate(chosen) + 0.0)


def display_edges(
    x: NDArray[np.float64], label: NDArray[np.int8], integer: bool, bins: int = 60
) -> NDArray[np.float64]:
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


def _example(sample: Batch) -> int | None:
    """Choose the feature with few missing values that separates best on its own, on the sampled events."""
    known = (sample.label == SIGNAL) | (sample.label == BACKGROUND)
    best: tuple[float, int] | None = None
    for place, x in enumerate(sample.x):
        present = known & ~np.isnan(x)
        y, w = sample.label[present] == SIGNAL, sample.weight[present]
        if present.sum() < 0.9 * known.sum() or not y.any() or y.all() or w[y].sum() <= 0 or w[~y].sum() <= 0:
            continue
        power = abs(roc_auc(y, x[present], w).value - 0.5)
        if best is None or power > best[0]:
            best = (power, place)
    return None if best is None else best[1]


FOLDS = 5
LABELS = 3
_PART = 1 << 12
_SALT_TALLY = 23


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
        fold = (row_uniform(batch.row, _SALT_TALLY) * FOLDS).astype(np.int64)
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
