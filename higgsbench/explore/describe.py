"""From an event file to an exploration: statistics, correlations, drift and the rescaling study out of counts."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from higgsbench.errors import DataError
from higgsbench.events import EventStream
from higgsbench.events.table import holds_toys
from higgsbench.explore.counts import (
    ALL,
    BACKGROUND,
    CLASS_NAMES,
    SIGNAL,
    UNLABELLED,
    Source,
    Survey,
    Tally,
    take_survey,
)
from higgsbench.explore.result import (
    ClassSummary,
    ColumnInfo,
    Correlations,
    DriftRow,
    Exploration,
    FeatureSummary,
    GroupRow,
    Histogram,
    MissingRow,
    Pair,
    SampleInfo,
    SplitCase,
    SplitStudy,
    WeightSummary,
)
from higgsbench.metrics import ams, ams_gradient
from higgsbench.metrics.comparisons import ks_p_value
from higgsbench.schema import ATLAS_HIGGS, B_REG, DERIVED, PRIMARY, UNITS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from higgsbench.explore.counts import PairSums, Stream
    from higgsbench.schema import TableSchema

__all__ = [
    "QUANTILES",
    "BinnedAUC",
    "binned_auc",
    "column_infos",
    "correlation_matrix",
    "correlations",
    "drift_rows",
    "explore",
    "feature_summaries",
    "group_rows",
    "histogram",
    "ks_distance",
    "missing_rows",
    "quantiles",
    "split_study",
    "weight_summaries",
]


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


_FEWEST = 30


def correlation_matrix(sums: PairSums) -> NDArray[np.float64]:
    """(p, p) weighted Pearson correlations; NaN where a feature does not vary or no event has both."""
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = sums.x / sums.w
        variance = sums.xx / sums.w - mean**2
        # What is left of a constant is rounding, not variance.
        variance[~(variance > 1e-12 * (sums.xx / sums.w + (sums.centre**2)[:, None]))] = np.nan
        r = (sums.xy / sums.w - mean * mean.T) / np.sqrt(variance * variance.T)
    # Matrix products may round the two halves differently.
    return np.clip(np.where(np.tri(*r.shape, dtype=np.bool_), r, r.T), -1.0, 1.0)


def correlations(label: str, sums: PairSums, names: Sequence[str], strongest: int = 10) -> Correlations:
    """Return the matrix and its strongest pairs; the standard error is (1 - r^2) / sqrt(effective events).

    Pairs with fewer than 30 common events are left out of the list of the strongest.
    """
    r = correlation_matrix(sums)
    first, second = np.triu_indices(len(names), 1)
    usable = np.isfinite(r[first, second]) & (sums.n[first, second] >= _FEWEST)
    first, second = first[usable], second[usable]
    order = np.argsort(-np.abs(r[first, second]), kind="stable")[:strongest]
    pairs = []
    for i, j in zip(first[order].tolist(), second[order].tolist(), strict=True):
        value, effective = float(r[i, j]), float(sums.w[i, j] ** 2 / sums.w2[i, j])
        se = (1.0 - value**2) / effective**0.5
        pairs.append(Pair(names[i], names[j], value, se, int(sums.n[i, j])))
    matrix = tuple(tuple(float(v) for v in row) for row in r)
    return Correlations(label, matrix, tuple(pairs))


_ALPHA = 0.001


def _expected(
    bins: NDArray[np.float64], totals: NDArray[np.float64], references: tuple[float, float]
) -> tuple[NDArray[np.float64], float] | None:
    """Bin contents of the expected mixture of both classes, and the effective number of present events."""
    background, signal = float(totals[0, 1]), float(totals[1, 1])
    if not (background > 0.0 and signal > 0.0):
        return None
    scales = (references[1] / background, references[0] / signal)
    content = sum((s * bins[c, :-1, 1] for c, s in enumerate(scales)), np.zeros(bins.shape[1] - 1))
    squares = sum(float(s**2 * bins[c, :-1, 2].sum()) for c, s in enumerate(scales))
    return content, (float(content.sum()) ** 2 / squares if squares > 0.0 else 0.0)


def drift_rows(
    tally: Tally, names: Sequence[str], samples: Sequence[str], references: tuple[float, float] | None, weighted: bool
) -> list[DriftRow]:
    """Compare the described events (sample 0) with every other sample.

    Args:
        tally: the counts.
        names: features.
        samples: names of samples 1, 2, ...
        references: (N_s, N_b), or None without labels.
        weighted: whether the file has weights that make a weighted distance another number.
    """
    rows = []
    for k, sample in enumerate(samples, start=1):
        for place, name in enumerate(names):
            rows.append(_row(tally, place, name, k, sample, references if weighted else None))
    return rows


def _row(tally: Tally, place: int, name: str, k: int, sample: str, references: tuple[float, float] | None) -> DriftRow:
    ours, theirs = tally.bins[place][0], tally.bins[place][k]
    counts, others = ours[:, :, 0].sum(axis=0), theirs[:, :, 0].sum(axis=0)
    n, m = float(counts[:-1].sum()), float(others[:-1].sum())
    found = ks_distance(counts[:-1], others[:-1])
    ks, binning = found if found else (None, 0.0)
    p = None if ks is None else ks_p_value(ks, n, m)
    weighted = weighted_p = None
    if references is not None:
        a = _expected(ours, tally.totals[0], references)
        b = _expected(theirs, tally.totals[k], references)
        both = ks_distance(a[0], b[0]) if a and b else None
        if a and b and both and min(a[1], b[1]) > 0.0:
            weighted, weighted_p = both[0], ks_p_value(both[0], a[1], b[1])
    missing, other = 1.0 - n / counts.sum(), 1.0 - m / others.sum()
    pooled = (counts[-1] + others[-1]) / (counts.sum() + others.sum())
    spread = math.sqrt(max(pooled * (1.0 - pooled), 0.0) * (1.0 / counts.sum() + 1.0 / others.sum()))
    z = float((missing - other) / spread) if spread > 0.0 else 0.0
    limit = _ALPHA / len(tally.bins)
    beyond = any(v is not None and v < limit for v in (p, weighted_p, math.erfc(abs(z) / math.sqrt(2.0))))
    return DriftRow(sample, name, ks, p, weighted, weighted_p, binning, float(missing), float(other), z, beyond)


def _best_cut(folds: NDArray[np.float64], scales: tuple[float, float]) -> tuple[int, bool] | None:
    """Find the bin boundary with the highest AMS: events in bins >= at (above) or < at pass; missing never pass."""
    content = folds[:, :, :-1, 1].sum(axis=0)
    b, s = scales[0] * content[0], scales[1] * content[1]
    best: tuple[float, int, bool] | None = None
    # An even bin boundary stands just before the open bin: cut at an edge value, never inside one.
    for above in (True, False):
        s_in = np.cumsum(s[::-1])[::-1] if above else np.cumsum(s) - s
        b_in = np.cumsum(b[::-1])[::-1] if above else np.cumsum(b) - b
        candidates = np.arange(1, s.size, 2)
        if not candidates.size:
            continue
        usable = candidates[(s_in[candidates] >= 0.0) & (b_in[candidates] >= 0.0)]
        if not usable.size:
            continue
        values = np.asarray(ams(s_in[usable], b_in[usable]))
        top = int(np.argmax(values))
        if best is None or values[top] > best[0]:
            best = (float(values[top]), int(usable[top]), above)
    return None if best is None else best[1:]


def _selected(bins: NDArray[np.float64], at: int, above: bool) -> NDArray[np.float64]:
    part = bins[:, at:-1] if above else bins[:, :at]
    total: NDArray[np.float64] = part.sum(axis=1)
    return total


def _case(
    name: str,
    fraction: float,
    selection: str,
    chosen: NDArray[np.float64],
    every: NDArray[np.float64],
    scales: tuple[float, float],
    rescaled: bool,
) -> SplitCase:
    """AMS with its error; with rescaling the class totals are fixed, without it they fluctuate like the selection."""
    b, s = (float(scales[c] * chosen[c, 1]) for c in (0, 1))
    variance = []
    for c in (0, 1):
        share = chosen[c, 1] / every[c, 1] if rescaled else 0.0
        spread = (1.0 - 2.0 * share) * chosen[c, 2] + share**2 * every[c, 2]
        variance.append(max(float(scales[c] ** 2 * spread), 0.0))
    by_s, by_b = ams_gradient(s, b)
    se = float(np.sqrt(by_s[0] ** 2 * variance[1] + by_b[0] ** 2 * variance[0]))
    return SplitCase(name, fraction, rescaled, selection, s, b, ams(s, b, B_REG), se)


def split_study(
    folds: NDArray[np.float64], edges: NDArray[np.float64], feature: str, totals: tuple[float, float]
) -> SplitStudy | None:
    """Select everything, and by the best cut on one feature, in growing random parts of the events.

    Args:
        folds: (folds, 2, bins, 3) bins of the feature in random equal parts; class 0 is background.
        edges: fine edges of the feature.
        feature: its name.
        totals: (N_s, N_b).

    Returns:
        The study, or None where a part lacks a class.
    """
    if (folds[:, :, :, 1].sum(axis=2) <= 0.0).any():
        return None
    whole = folds.sum(axis=0).sum(axis=1)
    full_scales = (totals[1] / float(whole[0, 1]), totals[0] / float(whole[1, 1]))
    found = _best_cut(folds, full_scales)
    if found is None:
        return None
    at, above = found
    cut = float(edges[at // 2])
    sign = "≥" if above else "<"
    selections = {"all events": None, f"{feature} {sign} {cut:.6g}": (at, above)}
    cases = []
    for parts in range(1, len(folds) + 1):
        bins = folds[:parts].sum(axis=0)
        every = bins.sum(axis=1)
        scales = (totals[1] / float(every[0, 1]), totals[0] / float(every[1, 1]))
        fraction = parts / len(folds)
        for selection, limits in selections.items():
            chosen = every if limits is None else _selected(bins, *limits)
            if (chosen[:, 1] < 0.0).any():
                return None
            for rescaled in (False, True):
                used = scales if rescaled else full_scales
                name = f"{fraction:.0%} of the events"
                cases.append(_case(name, fraction, selection, chosen, every, used, rescaled))
    return SplitStudy(feature, cut, above, tuple(cases))


_ORDER = (SIGNAL, BACKGROUND, UNLABELLED)


def column_infos(schema: TableSchema, columns: Sequence[str]) -> Iterator[ColumnInfo]:
    """Say of each column of the file what it is."""
    roles = {
        schema.event_id: ("event number", "integer"),
        schema.label: ("label", "text"),
        schema.weight: ("weight", "decimal"),
        schema.subset: ("subset", "text"),
        schema.subset_weight: ("weight within the subset", "decimal"),
    }
    for name in columns:
        if name in schema.features:
            role = "derived feature" if name in DERIVED else "primary feature" if name in PRIMARY else "feature"
            kind = "integer" if name in schema.integers else "decimal"
            yield ColumnInfo(name, f"{role}, group" if name == schema.group else role, kind, UNITS.get(name))
        elif name in roles:
            yield ColumnInfo(name, *roles[name], None)
        else:
            yield ColumnInfo(name, "group", "integer", None)


def group_rows(tally: Tally, groups: Sequence[int] | None, scales: Sequence[float]) -> Iterator[GroupRow]:
    """Yield the class balance of each group and, last, of all events."""
    if groups:
        for number, counts in zip(groups, tally.groups, strict=True):
            yield _group_row(number, counts, scales)
    yield _group_row(None, tally.groups.sum(axis=0), scales)


def _group_row(number: int | None, counts: NDArray[np.float64], scales: Sequence[float]) -> GroupRow:
    events = int(counts[:, 0].sum())
    if counts[UNLABELLED, 0]:
        return GroupRow(number, events, None, None, None, None, None, None)
    expected = [scales[c] * float(counts[c, 1]) for c in (BACKGROUND, SIGNAL)]
    effective = [_effective(counts[c]) for c in (BACKGROUND, SIGNAL)]
    n_b, n_s = (int(counts[c, 0]) for c in (BACKGROUND, SIGNAL))
    return GroupRow(number, events, n_s, n_b, expected[1], expected[0], effective[1], effective[0])


def _effective(counts: NDArray[np.float64]) -> float:
    """Kish's effective sample size, as `metrics.effective_sample_size`, from events, weights and squared weights."""
    return float(counts[1] ** 2 / counts[2]) if counts[2] > 0.0 else 0.0


def weight_summaries(tally: Tally, scales: Sequence[float]) -> Iterator[WeightSummary]:
    """Yield the weights of each class that has events."""
    for label in _ORDER:
        counts = tally.totals[0, label]
        if counts[0]:
            low, high = tally.weight_range[label]
            yield WeightSummary(
                CLASS_NAMES[label],
                int(counts[0]),
                float(counts[1]),
                float(scales[label] * counts[1]),
                _effective(counts),
                float(low),
                float(high),
                int(tally.negative[label]),
            )


def missing_rows(tally: Tally, groups: Sequence[int] | None, names: Sequence[str]) -> Iterator[MissingRow]:
    """Yield the missing values of each feature that has any, by group and class."""
    table: list[tuple[int | None, NDArray[np.float64], NDArray[np.float64]]] = []
    if groups:
        table += list(zip(groups, tally.groups, tally.missing, strict=True))
    table.append((None, tally.groups.sum(axis=0), tally.missing.sum(axis=0)))
    for place, name in enumerate(names):
        if not tally.missing[:, :, 0, place].any():
            continue
        for number, counts, missing in table:
            for label in _ORDER:
                events, weight = float(counts[label, 0]), float(counts[label, 1])
                if tally.totals[0, label, 0]:
                    gone, gone_weight = (float(v) for v in missing[label, :, place])
                    share = gone / events if events else None
                    weighted = gone_weight / weight if weight > 0.0 else None
                    if weighted is not None and share in (0.0, 1.0):
                        weighted = share  # free of the rounding of two sums
                    yield MissingRow(name, number, CLASS_NAMES[label], int(events), int(gone), share, weighted)


def feature_summaries(
    tally: Tally, survey: Survey, names: Sequence[str], scales: Sequence[float]
) -> Iterator[FeatureSummary]:
    """Yield statistics, histograms and the AUC of each feature."""
    for place, name in enumerate(names):
        bins = tally.bins[place][0]
        classes = [
            _class_summary(tally, survey, place, label, scales[label]) for label in _ORDER if bins[label, :-1, 0].any()
        ]
        auc = binned_auc(bins[BACKGROUND, :-1], bins[SIGNAL, :-1])
        # Missing as the lowest value: a bin of one "value" needs an odd number, hence the empty one before it.
        lowest = np.concatenate([np.zeros_like(bins[:, :1]), bins[:, -1:], bins[:, :-1]], axis=1)
        raw = binned_auc(lowest[BACKGROUND], lowest[SIGNAL])
        yield FeatureSummary(
            name,
            UNITS.get(name),
            tuple(survey.display[place].tolist()),
            tuple(classes),
            None if auc is None else auc.value,
            None if auc is None else auc.se,
            None if auc is None else auc.binning,
            None if raw is None else raw.value,
        )


def _class_summary(tally: Tally, survey: Survey, place: int, label: int, scale: float) -> ClassSummary:
    sums, bins, fine = tally.pairs[label], tally.bins[place][0, label], survey.fine[place]
    w = float(sums.w[place, place])
    # Adding 0.0 makes -0.0 read as 0.
    low, high = float(tally.low[label, place]) + 0.0, float(tally.high[label, place]) + 0.0
    mean = std = float("nan")
    if w > 0.0:
        shift = float(sums.x[place, place]) / w
        mean = float(sums.centre[place]) + shift
        std = max(float(sums.xx[place, place]) / w - shift**2, 0.0) ** 0.5
    return ClassSummary(
        label=CLASS_NAMES[label],
        present=int(bins[:-1, 0].sum()),
        mean=mean,
        std=std,
        minimum=low,
        quantiles=quantiles(bins[:-1, 1], fine, low, high),
        maximum=high,
        histogram=histogram(bins, fine, survey.display[place], scale),
    )


def explore(
    data: str | Path | Stream,
    *,
    test: str | Path | None = None,
    schema: TableSchema = ATLAS_HIGGS,
    subsets: Sequence[str] | None = None,
) -> Exploration:
    """Describe an event file before any model sees it.

    The file is read in parts, twice, so it may be larger than memory. Where it has subsets, only the chosen ones are
    described, so that nobody looks at the truth of held-out events; the others are compared with them for drift.

    Args:
        data: CSV, gzipped CSV, Parquet or ROOT file, or a stream of events (`SimulatedStream`).
        test: a second file, compared with the described events for drift.
        schema: the layout of the files; a stream brings its own.
        subsets: subsets to describe; None takes the layout's first one where the file has it, else all events.

    Returns:
        The findings; all weighted numbers with weights rescaled per class to the reference totals.

    Raises:
        DataError: if a file breaks a rule of its layout, or has no event to describe.
    """
    stream = EventStream(data, schema) if isinstance(data, (str, Path)) else data
    source = Source(stream)
    second = None if test is None else Source(EventStream(test, stream.schema), keep_bytes=0)
    survey = take_survey(source, subsets)
    if not len(survey.sample):
        raise DataError(f"{stream.source}: no event to describe")
    names = list(survey.others) + ([] if test is None else [Path(test).name])
    tally = Tally(survey, 1 + len(names))
    _count(source, survey, tally)
    if second is not None:
        for batch in second:
            tally.add(batch, len(names))
    return _assembled(source, survey, tally, names)


def _count(source: Source, survey: Survey, tally: Tally) -> None:
    numbers = dict.fromkeys(survey.described, 0) | {name: i for i, name in enumerate(survey.others, start=1)}
    rows = 0
    for batch in source:
        rows += len(batch)
        if batch.subset is None:
            tally.add(batch, 0)
            continue
        sample = np.array([numbers.get(name, -1) for name in batch.subset.tolist()])
        for number in np.unique(sample).tolist():
            tally.add(batch.take(sample == number), number)
    if rows != survey.rows:
        raise DataError(f"{source.stream.source}: the file changed while it was read")


def _assembled(source: Source, survey: Survey, tally: Tally, others: list[str]) -> Exploration:
    schema, features = source.schema, list(source.schema.features)
    references = _references(source, tally)
    scales = _scales(tally, references)
    return Exploration(
        source=source.stream.source,
        layout=schema.name,
        columns=tuple(column_infos(schema, source.stream.columns)),
        samples=tuple(_samples(source, survey, tally, others)),
        weight=source.weight_column,
        group=schema.group if survey.groups else None,
        n_s=None if references is None else references[0],
        n_b=None if references is None else references[1],
        groups=tuple(group_rows(tally, survey.groups, scales)),
        weights=tuple(weight_summaries(tally, scales)),
        missing=tuple(missing_rows(tally, survey.groups, features)),
        quantile_levels=QUANTILES,
        features=tuple(feature_summaries(tally, survey, features, scales)),
        correlations=tuple(_correlations(tally, features, scales)),
        drift=tuple(drift_rows(tally, features, others, references, source.weight_column is not None)),
        split=_split(tally, survey, features, references),
        notes=tuple(_notes(source, survey, tally, others, references)),
    )


def _references(source: Source, tally: Tally) -> tuple[float, float] | None:
    """Reference totals (N_s, N_b), or None unless both classes are there with positive weight."""
    n_s, n_b = float(tally.totals[0, SIGNAL, 1]), float(tally.totals[0, BACKGROUND, 1])
    if not (n_s > 0.0 and n_b > 0.0):
        return None
    schema = source.schema
    return (schema.n_s if schema.n_s is not None else n_s, schema.n_b if schema.n_b is not None else n_b)


def _scales(tally: Tally, references: tuple[float, float] | None) -> tuple[float, float, float]:
    """Factor on the weights of each class that brings its sum to the reference total; 1 where there is none."""
    if references is None:
        return 1.0, 1.0, 1.0
    n_s, n_b = references
    return n_b / float(tally.totals[0, BACKGROUND, 1]), n_s / float(tally.totals[0, SIGNAL, 1]), 1.0


def _samples(source: Source, survey: Survey, tally: Tally, others: list[str]) -> list[SampleInfo]:
    described = "all events" if survey.described == (ALL,) else " + ".join(survey.described)
    out = []
    for number, name in enumerate([described, *others]):
        counts = tally.totals[number, :, 0]
        known = not counts[UNLABELLED]
        signal, background = (int(counts[c]) if known else None for c in (SIGNAL, BACKGROUND))
        out.append(SampleInfo(name, int(counts.sum()), signal, background, number == 0))
    return out


def _correlations(tally: Tally, names: list[str], scales: tuple[float, float, float]) -> list[Correlations]:
    b, s, unlabelled = tally.pairs
    if tally.totals[0, UNLABELLED, 0]:
        return [correlations("all", unlabelled, names)]
    out = [correlations("all", b.combined(s, scales[BACKGROUND], scales[SIGNAL]), names)]
    for label, sums in ((SIGNAL, s), (BACKGROUND, b)):
        if tally.totals[0, label, 0]:
            out.append(correlations(CLASS_NAMES[label], sums, names))
    return out


def _split(tally: Tally, survey: Survey, names: list[str], references: tuple[float, float] | None) -> SplitStudy | None:
    if references is None or survey.example is None:
        return None
    return split_study(tally.folds, survey.fine[survey.example], names[survey.example], references)


def _notes(
    source: Source, survey: Survey, tally: Tally, others: list[str], references: tuple[float, float] | None
) -> list[str]:
    schema, notes = source.schema, []
    # Toys are told by their numbers, whether they come fresh or out of a file.
    if any(holds_toys(part, schema) for part in itertools.islice(source.stream.batches(check=False), 1)):
        notes.append("These events come from the built-in toy simulation; their numbers are not those of real data.")
    if schema.label not in source.stream.columns:
        notes.append(
            f"The events carry no column {schema.label}: class balance, single-feature AUC, class-wise statistics and "
            "the rescaling study need the truth and are left out."
        )
    elif references is None:
        notes.append("One class is absent or its weights do not sum to a positive number: nothing can be compared.")
    if source.weight_column is None:
        notes.append("No weight column: every event counts 1, and weighted numbers equal unweighted ones.")
    if tally.negative.any():
        notes.append("Some weights are negative: quantiles, AUC and their error bounds are approximate.")
    if schema.group is None:
        notes.append("The layout has no group column: nothing is broken down by group.")
    elif survey.groups is None:
        notes.append(f"Column {schema.group} has too many values to break anything down by it.")
    if not tally.missing[:, :, 0].any():
        notes.append("No value is missing.")
    if not others:
        notes.append("No second sample: drift needs a subset column or a second file (--test).")
    elif survey.described != (ALL,):
        notes.append(
            f"Described are the events of subset {' + '.join(survey.described)} only; the others serve to look for "
            "drift, so that the truth of held-out events stays unseen."
        )
    return notes
