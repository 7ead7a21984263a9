"""Tables of one exploration: columns, classes, weights, missing values, features."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from higgsbench.explore.batch import BACKGROUND, CLASS_NAMES, SIGNAL, UNLABELLED
from higgsbench.explore.distributions import binned_auc, histogram, quantiles
from higgsbench.explore.result import ClassSummary, ColumnInfo, FeatureSummary, GroupRow, MissingRow, WeightSummary
from higgsbench.schema import DERIVED, PRIMARY, UNITS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from higgsbench.explore.survey import Survey
    from higgsbench.explore.tally import Tally
    from higgsbench.schema import TableSchema

__all__ = ["column_infos", "feature_summaries", "group_rows", "missing_rows", "weight_summaries"]

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
