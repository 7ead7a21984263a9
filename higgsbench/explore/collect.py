"""From an event file to an `Exploration`, in two readings."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from higgsbench.errors import DataError
from higgsbench.events import EventStream
from higgsbench.events.table import holds_toys
from higgsbench.explore.batch import BACKGROUND, CLASS_NAMES, SIGNAL, UNLABELLED, Source
from higgsbench.explore.correlate import correlations
from higgsbench.explore.describe import column_infos, feature_summaries, group_rows, missing_rows, weight_summaries
from higgsbench.explore.distributions import QUANTILES
from higgsbench.explore.drift import drift_rows
from higgsbench.explore.result import Correlations, Exploration, SampleInfo, SplitStudy
from higgsbench.explore.split import split_study
from higgsbench.explore.survey import ALL, Survey, take_survey
from higgsbench.explore.tally import Tally
from higgsbench.schema import ATLAS_HIGGS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from higgsbench.explore.batch import Stream
    from higgsbench.schema import TableSchema

__all__ = ["explore"]


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
