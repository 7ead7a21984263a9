"""First pass: which samples, groups and values there are, and from them the bins of the second pass."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from higgsbench.errors import DataError
from higgsbench.explore.batch import BACKGROUND, SIGNAL, Batch, row_uniform
from higgsbench.metrics import roc_auc
from higgsbench.schema import UNITS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from higgsbench.explore.batch import Source
    from higgsbench.schema import TableSchema

__all__ = ["ALL", "Survey", "display_edges", "fine_edges", "take_survey"]

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
