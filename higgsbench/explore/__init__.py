"""Explore an event file before any model sees it: classes, weights, missing values, features, correlations, drift."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

import higgsbench.explore.counts as stats
from higgsbench.challenge import TOY
from higgsbench.events import EventStream, open_events
from higgsbench.explore import result
from higgsbench.explore.counts import BACKGROUND, CLASS_NAMES, SIGNAL, UNLABELLED, Survey, Table, Tally
from higgsbench.metrics import ams, ams_gradient
from higgsbench.metrics.estimates import ks_p_value
from higgsbench.schema import DERIVED, PRIMARY, UNITS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from higgsbench.events import Events
    from higgsbench.metrics.weights import Floats
    from higgsbench.schema import TableSchema

_ORDER = (SIGNAL, BACKGROUND, UNLABELLED)
_ALPHA = 0.001  # level at which drift is flagged, before division by the number of features
_FEWEST = 30  # a pair of features is listed from this number of common events on


def explore(
    data: str | Path | Events,
    *,
    test: str | Path | None = None,
    schema: TableSchema | None = None,
    subsets: Sequence[str] | None = None,
) -> result.Exploration:
    """Describe an event file before any model sees it.

    A large file is read part by part, so it may be larger than memory. Where it has subsets, only the chosen ones are
    described, so that nobody looks at the truth of held-out events; the others are compared with them for drift.

    Args:
        data: CSV, gzipped CSV, Parquet or ROOT file, or events.
        test: a second file, compared with the described events for drift.
        schema: the layout of the files, by default the built-in one of the columns; events bring their own.
        subsets: subsets to describe; None takes the layout's first one where the file has it, else all events.

    Returns:
        The findings; all weighted numbers with weights rescaled per class to the reference totals.

    Raises:
        DataError: if a file breaks a rule of its layout, or has no event to describe.
    """
    table = _opened(data, schema) if isinstance(data, (str, Path)) else Table(data)
    second = None if test is None else _opened(test, table.schema)
    survey = Survey.take(table, subsets)
    others = [*survey.others, *([] if test is None else [Path(test).name])]
    tally = Tally(survey, 1 + len(others))
    numbers = dict.fromkeys(survey.described, 0) | {name: i for i, name in enumerate(survey.others, start=1)}
    for frame in table.parts():
        tally.add(frame, frame["~subset"].replace_strict(numbers, return_dtype=pl.Int64).to_numpy())
    for frame in () if second is None else second.parts():
        tally.add(frame, np.full(frame.height, len(others)))
    return _Found(table, survey, tally, others).exploration()


def _opened(file: str | Path, schema: TableSchema | None) -> Table:
    events = open_events(file, schema)
    return Table(events, EventStream(file, events.schema).columns)


class _Found(NamedTuple):
    """What was counted, and the tables that follow from it.

    The samples 1, 2, ... are `others`, by name, which are compared with the described events, sample 0.
    """

    table: Table
    survey: Survey
    tally: Tally
    others: list[str]

    @property
    def references(self) -> tuple[float, float] | None:
        """Reference totals (N_s, N_b), or None unless both classes are there with positive weight."""
        n_s, n_b = float(self.tally.totals[0, SIGNAL, 1]), float(self.tally.totals[0, BACKGROUND, 1])
        if not (n_s > 0.0 and n_b > 0.0):
            return None
        schema = self.table.schema
        return (schema.n_s if schema.n_s is not None else n_s, schema.n_b if schema.n_b is not None else n_b)

    @property
    def scales(self) -> tuple[float, float, float]:
        """Factor on the weights of each class that brings its sum to the reference total; 1 where there is none."""
        if self.references is None:
            return 1.0, 1.0, 1.0
        return (*_scales(self.tally.totals[0], self.references).tolist(), 1.0)

    def exploration(self) -> result.Exploration:
        """Put everything together."""
        n_s, n_b = self.references or (None, None)
        schema, at, samples = self.table.schema, self.survey.example, range(1, 1 + len(self.others))
        split = None
        if self.references is not None and at is not None:
            split = split_study(self.tally.folds, self.survey.fine[at], schema.features[at], self.references)
        return result.Exploration(
            source=self.table.events.source,
            layout=schema.name,
            columns=tuple(_column(name, schema) for name in self.table.columns),
            samples=tuple(self._samples()),
            weight=self.table.weight_column,
            group=schema.group if self.survey.groups else None,
            n_s=n_s,
            n_b=n_b,
            groups=tuple(_group_row(number, counts, self.scales) for number, counts, _ in self._by_group()),
            weights=tuple(self._weights()),
            missing=tuple(self._missing()),
            quantile_levels=stats.QUANTILES,
            features=tuple(self._feature(place, name) for place, name in enumerate(schema.features)),
            correlations=tuple(self._correlations()),
            drift=tuple(self._drift(k, place) for k in samples for place in range(len(schema.features))),
            split=split,
            notes=(*self._notes(), *(_positions(name, values) for name, values in schema.categories.items())),
        )

    def _samples(self) -> Iterator[result.SampleInfo]:
        described = " + ".join(self.survey.described) or "all events"
        for number, name in enumerate([described, *self.others]):
            counts = self.tally.totals[number, :, 0]
            known = not counts[UNLABELLED]
            signal, background = (int(counts[c]) if known else None for c in (SIGNAL, BACKGROUND))
            yield result.SampleInfo(name, int(counts.sum()), signal, background, number == 0)

    def _by_group(self) -> Iterator[tuple[int | None, Floats, Floats]]:
        """Yield number, counts and missing values of each group and, last, of all events."""
        counts, missing = self.tally.groups, self.tally.missing
        yield from zip(self.survey.groups or (), counts, missing, strict=False)
        yield None, counts.sum(axis=0), missing.sum(axis=0)

    def _weights(self) -> Iterator[result.WeightSummary]:
        """Yield the weights of each class that has events."""
        for label in _ORDER:
            counts = self.tally.totals[0, label]
            if counts[0]:
                low, high = self.tally.weight_range[label]
                expected, effective = float(self.scales[label] * counts[1]), _effective(counts)
                yield result.WeightSummary(CLASS_NAMES[label], int(counts[0]), float(counts[1]), expected, effective,
                                    float(low), float(high), int(self.tally.negative[label]))  # fmt: skip

    def _missing(self) -> Iterator[result.MissingRow]:
        """Yield the missing values of each feature that has any, by group and class."""
        labels = [label for label in _ORDER if self.tally.totals[0, label, 0]]
        for place, name in enumerate(self.table.schema.features):
            if not self.tally.missing[:, :, 0, place].any():
                continue
            for number, counts, missing in self._by_group():
                for label in labels:
                    events, weight = float(counts[label, 0]), float(counts[label, 1])
                    gone, gone_weight = (float(v) for v in missing[label, :, place])
                    share = gone / events if events else None
                    weighted = gone_weight / weight if weight > 0.0 else None
                    if weighted is not None and share in (0.0, 1.0):
                        weighted = share  # exact, without the rounding errors of two sums
                    yield result.MissingRow(name, number, CLASS_NAMES[label], int(events), int(gone), share, weighted)

    def _feature(self, place: int, name: str) -> result.FeatureSummary:
        """Return statistics, histograms and the AUC of a feature."""
        bins = self.tally.bins[place][0]
        classes = tuple(self._class(place, label) for label in _ORDER if bins[label, :-1, 0].any())
        auc = stats.binned_auc(bins[BACKGROUND, :-1], bins[SIGNAL, :-1])
        # Missing as the lowest value: a bin of one "value" needs an odd number, hence the empty one before it.
        lowest = np.concatenate([np.zeros_like(bins[:, :1]), bins[:, -1:], bins[:, :-1]], axis=1)
        raw = stats.binned_auc(lowest[BACKGROUND], lowest[SIGNAL])
        value, se, binning = auc or (None, None, None)
        edges = tuple(self.survey.display[place].tolist())
        return result.FeatureSummary(name, UNITS.get(name), edges, classes, value, se, binning, raw[0] if raw else None)

    def _class(self, place: int, label: int) -> result.ClassSummary:
        bins, fine = self.tally.bins[place][0, label], self.survey.fine[place]
        w, x, xx = (float(self.tally.pairs[label, k, place, place]) for k in (1, 3, 4))
        # Adding 0.0 makes -0.0 read as 0.
        low, high = float(self.tally.low[label, place]) + 0.0, float(self.tally.high[label, place]) + 0.0
        mean = std = float("nan")
        if w > 0.0:
            shift = x / w
            mean = float(self.survey.centre[place]) + shift
            std = max(xx / w - shift**2, 0.0) ** 0.5
        levels = stats.quantiles(bins[:-1, 1], fine, low, high)
        bars = stats.histogram(bins, fine, self.survey.display[place], self.scales[label])
        return result.ClassSummary(CLASS_NAMES[label], int(bins[:-1, 0].sum()), mean, std, low, levels, high, bars)

    def _correlations(self) -> Iterator[result.Correlations]:
        """Yield the correlations of the expected mixture and of each class, or of all events without labels."""
        names, centre, (b, s, unlabelled) = self.table.features, self.survey.centre, self.tally.pairs
        # The sums of 1 stay numbers of events, those of w^2 are rescaled twice.
        of_b, of_s = (np.array([1.0, f, f**2, f, f, f])[:, None, None] for f in self.scales[:UNLABELLED])
        known = not self.tally.totals[0, UNLABELLED, 0]
        yield correlations("all", of_b * b + of_s * s if known else unlabelled, centre, names)
        for label, sums in ((SIGNAL, s), (BACKGROUND, b)):
            if known and self.tally.totals[0, label, 0]:
                yield correlations(CLASS_NAMES[label], sums, centre, names)

    def _expected(self, place: int, k: int) -> tuple[Floats, float] | None:
        """Return the bins of the expected mixture of both classes in a sample, and its effective number of events."""
        bins, totals = self.tally.bins[place][k], self.tally.totals[k]
        if self.references is None or self.table.weight_column is None or not (totals[:UNLABELLED, 1] > 0.0).all():
            return None
        scales = _scales(totals, self.references)
        content = (scales[:, None] * bins[:UNLABELLED, :-1, 1]).sum(axis=0)
        squares = float((scales**2 * bins[:UNLABELLED, :-1, 2].sum(axis=1)).sum())
        return content, (float(content.sum()) ** 2 / squares if squares > 0.0 else 0.0)

    def _drift(self, k: int, place: int) -> result.DriftRow:
        """Compare a feature of the described events with that of sample k."""
        counts, others = (self.tally.bins[place][sample][:, :, 0].sum(axis=0) for sample in (0, k))
        n, m = float(counts[:-1].sum()), float(others[:-1].sum())
        ks, binning = stats.ks_distance(counts[:-1], others[:-1]) or (None, 0.0)
        p = None if ks is None else ks_p_value(ks, n, m)
        weighted = weighted_p = None
        a, b = self._expected(place, 0), self._expected(place, k)
        both = stats.ks_distance(a[0], b[0]) if a and b else None
        if a and b and both and min(a[1], b[1]) > 0.0:
            weighted, weighted_p = both[0], ks_p_value(both[0], a[1], b[1])
        missing, other = 1.0 - n / counts.sum(), 1.0 - m / others.sum()
        pooled = (counts[-1] + others[-1]) / (counts.sum() + others.sum())
        spread = math.sqrt(max(pooled * (1.0 - pooled), 0.0) * (1.0 / counts.sum() + 1.0 / others.sum()))
        z = float((missing - other) / spread) if spread > 0.0 else 0.0
        limit = _ALPHA / len(self.tally.bins)
        beyond = any(v is not None and v < limit for v in (p, weighted_p, math.erfc(abs(z) / math.sqrt(2.0))))
        return result.DriftRow(self.others[k - 1], self.table.features[place], ks, p, weighted, weighted_p, binning,
                        float(missing), float(other), z, beyond)  # fmt: skip

    def _notes(self) -> Iterator[str]:
        """Say what could not be shown, and why."""
        schema = self.table.schema
        if self.table.events.simulated:
            yield TOY
        if schema.label not in self.table.columns:
            what = "class balance, single-feature AUC, class-wise statistics and the rescaling study"
            yield f"The events carry no column {schema.label}: {what} need the truth and are left out."
        elif self.references is None:
            yield "One class is absent or its weights do not sum to a positive number: nothing can be compared."
        if self.table.weight_column is None:
            yield "No weight column: every event counts 1, and weighted numbers equal unweighted ones."
        if self.tally.negative.any():
            yield "Some weights are negative: quantiles, AUC and their error bounds are approximate."
        if schema.group is None:
            yield "The layout has no group column: nothing is broken down by group."
        elif self.survey.groups is None:
            yield f"Column {schema.group} has too many values for a breakdown."
        if not self.tally.missing[:, :, 0].any():
            yield "No value is missing."
        if not self.others:
            yield "No second sample: drift needs a subset column or a second file (--test)."
        elif self.table.subset_column is not None:
            what = f"Only events of subset {' + '.join(self.survey.described)} are described"
            yield f"{what}. The others are compared with them for drift; the truth of held-out events stays unseen."


def _positions(name: str, values: Sequence[str]) -> str:
    return f"{name} is categorical and counted by position: {', '.join(f'{i} {v}' for i, v in enumerate(values))}."


def _column(name: str, schema: TableSchema) -> result.ColumnInfo:
    """Describe a column of the file."""
    if name in schema.features:
        role = "derived feature" if name in DERIVED else "primary feature" if name in PRIMARY else "feature"
        kind = "integer" if name in schema.integers else "text" if name in schema.categories else "decimal"
        return result.ColumnInfo(name, f"{role}, group" if name == schema.group else role, kind, UNITS.get(name))
    roles = {
        schema.event_id: ("event number", "integer"),
        schema.label: ("label", "text"),
        schema.weight: ("weight", "decimal"),
        schema.subset: ("subset", "text"),
        schema.subset_weight: ("weight within the subset", "decimal"),
        schema.process: ("process", "text"),
        schema.fold: ("fold", "integer"),
    }
    return result.ColumnInfo(name, *roles.get(name, ("group", "integer")), None)


def _group_row(number: int | None, counts: Floats, scales: Sequence[float]) -> result.GroupRow:
    events = int(counts[:, 0].sum())
    if counts[UNLABELLED, 0]:
        return result.GroupRow(number, events, *(None,) * 7)
    n_b, n_s = (int(counts[c, 0]) for c in (BACKGROUND, SIGNAL))
    b, s = (scales[c] * float(counts[c, 1]) for c in (BACKGROUND, SIGNAL))
    effective_b, effective_s = (_effective(counts[c]) for c in (BACKGROUND, SIGNAL))
    return result.GroupRow(number, events, n_s, n_b, s, b, effective_s, effective_b, s / b if s and b else None)


def _effective(counts: Floats) -> float:
    """Kish's effective sample size, as `metrics.effective_sample_size`, from events, weights and squared weights."""
    return float(counts[1] ** 2 / counts[2]) if counts[2] > 0.0 else 0.0


def correlation_matrix(sums: Floats, centre: Floats) -> Floats:
    """(p, p) weighted Pearson correlations; NaN where a feature does not vary or no event has both.

    The `sums` are those of `counts.pair_sums`, for values from which `centre` was subtracted.
    """
    _, w, _, x, xx, xy = sums
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = x / w
        variance = xx / w - mean**2
        # What remains of a constant is rounding error, not variance.
        variance[~(variance > 1e-12 * (xx / w + (centre**2)[:, None]))] = np.nan
        r = (xy / w - mean * mean.T) / np.sqrt(variance * variance.T)
    # Matrix products may round the two halves differently.
    symmetric: Floats = np.where(np.tri(*r.shape, dtype=np.bool_), r, r.T)
    return np.clip(symmetric, -1.0, 1.0)


def correlations(
    label: str, sums: Floats, centre: Floats, names: Sequence[str], strongest: int = 10
) -> result.Correlations:
    """Return the matrix and its strongest pairs, with standard errors (1 - r^2) / sqrt(effective events)."""
    r, (n, w, w2) = correlation_matrix(sums, centre), sums[:3]
    first, second = np.triu_indices(len(names), 1)
    usable = np.isfinite(r[first, second]) & (n[first, second] >= _FEWEST)
    first, second = first[usable], second[usable]
    order = np.argsort(-np.abs(r[first, second]), kind="stable")[:strongest]
    pairs = []
    for i, j in zip(first[order].tolist(), second[order].tolist(), strict=True):
        value, effective = float(r[i, j]), float(w[i, j] ** 2 / w2[i, j])
        pairs.append(result.Pair(names[i], names[j], value, (1.0 - value**2) / effective**0.5, int(n[i, j])))
    return result.Correlations(label, tuple(tuple(row) for row in r.tolist()), tuple(pairs))


def _best_cut(bins: Floats, scales: Floats) -> tuple[int, bool] | None:
    """Find the bin boundary with the highest AMS: events in bins >= at (above) or < at pass, missing values never."""
    b, s = scales[:, None] * bins[:, :-1, 1]
    found: list[tuple[float, int, bool]] = []
    candidates = np.arange(1, s.size, 2)  # cut at the value of an edge, never inside an open bin
    for above in (True, False):
        s_in, b_in = (np.cumsum(v[::-1])[::-1] if above else np.cumsum(v) - v for v in (s, b))
        usable = candidates[(s_in[candidates] >= 0.0) & (b_in[candidates] >= 0.0)]
        if usable.size:
            values = np.asarray(ams(s_in[usable], b_in[usable]))
            found.append((float(values.max()), int(usable[np.argmax(values)]), above))
    return max(found, key=lambda cut: cut[0])[1:] if found else None


def split_study(folds: Floats, edges: Floats, feature: str, totals: tuple[float, float]) -> result.SplitStudy | None:
    """Measure the AMS of all events and of the best cut on one feature, in growing random parts of the events.

    Args:
        folds: (folds, 2, bins, 3) bins of the feature in random equal parts; class 0 is background.
        edges: fine edges of the feature.
        feature: its name.
        totals: (N_s, N_b).

    Returns:
        The study, or None where a part lacks a class or a selected sum is negative.
    """
    if (folds[:, :, :, 1].sum(axis=2) <= 0.0).any():
        return None
    whole = folds.sum(axis=0)
    full_scales = _scales(whole.sum(axis=1), totals)
    found = _best_cut(whole, full_scales)
    if found is None:
        return None
    at, above = found
    cut = float(edges[at // 2])
    selections = {"all events": slice(None)}
    selections[f"{feature} {'≥' if above else '<'} {cut:.6g}"] = slice(at, -1) if above else slice(at)
    cases = []
    for parts in range(1, len(folds) + 1):
        bins = folds[:parts].sum(axis=0)
        every = bins.sum(axis=1)
        for selection, limits in selections.items():
            chosen = bins[:, limits].sum(axis=1)
            if (chosen[:, 1] < 0.0).any():
                return None
            for rescaled in (False, True):
                used = _scales(every, totals) if rescaled else full_scales
                cases.append(_case(parts / len(folds), selection, chosen, every, used, rescaled))
    return result.SplitStudy(feature, cut, above, tuple(cases))


def _scales(every: Floats, totals: tuple[float, float]) -> Floats:
    """Factors on the weights of background and signal that bring their sums to the totals (N_s, N_b)."""
    return np.array(totals[::-1]) / every[:UNLABELLED, 1]


def _case(
    fraction: float, selection: str, chosen: Floats, every: Floats, scales: Floats, rescaled: bool
) -> result.SplitCase:
    """AMS with its error; with rescaling the class totals are fixed, without it they fluctuate like the selection."""
    b, s = (scales * chosen[:, 1]).tolist()
    share = chosen[:, 1] / every[:, 1] * rescaled
    spread = (1.0 - 2.0 * share) * chosen[:, 2] + share**2 * every[:, 2]
    variance = np.maximum(scales**2 * spread, 0.0)
    by_s, by_b = ams_gradient(s, b)
    se = float(np.sqrt(by_s[0] ** 2 * variance[1] + by_b[0] ** 2 * variance[0]))
    return result.SplitCase(f"{fraction:.0%} of the events", fraction, rescaled, selection, s, b, ams(s, b), se)
