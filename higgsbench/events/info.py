"""What a file of events holds, in one glance: layout, digest, sets, classes, sums of weights, missing values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from higgsbench.events.table import Events

__all__ = ["EventsInfo", "SubsetInfo", "describe"]


@dataclass(frozen=True)
class SubsetInfo:
    """One subset of the events.

    Attributes:
        name: value of the subset column, or "all".
        events: number of events.
        signal: number of signal events, None without labels.
        background: number of background events, None without labels.
        signal_weight: sum of the signal's evaluation weights (expected events), None without labels.
        background_weight: likewise of the background.
    """

    name: str
    events: int
    signal: int | None
    background: int | None
    signal_weight: float | None
    background_weight: float | None


@dataclass(frozen=True)
class EventsInfo:
    """What a table of events holds.

    Attributes:
        source: name of the file.
        layout: name of the schema.
        rows: number of events.
        columns: names in the order of the layout.
        digest: SHA-256 of the content.
        labelled: whether the truth is known.
        weight: the weight column that evaluation uses, or None.
        subsets: the subsets, or one called "all".
        groups: number of events by group (jet number), empty without groups.
        missing: by column with missing values, the number of them by group (key None without groups).
    """

    source: str
    layout: str
    rows: int
    columns: tuple[str, ...]
    digest: str
    labelled: bool
    weight: str | None
    subsets: tuple[SubsetInfo, ...]
    groups: dict[int, int]
    missing: dict[str, dict[int | None, int]]

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-ready content."""
        return {
            "source": self.source,
            "layout": self.layout,
            "rows": self.rows,
            "columns": list(self.columns),
            "digest": self.digest,
            "labelled": self.labelled,
            "weight": self.weight,
            "subsets": [vars(subset) for subset in self.subsets],
            "groups": {str(k): v for k, v in self.groups.items()},
            "missing": {name: {str(k): v for k, v in counts.items()} for name, counts in self.missing.items()},
        }


def describe(events: Events) -> EventsInfo:
    """Count what the events hold.

    Args:
        events: the events.

    Returns:
        The counts and sums; weights are those that evaluation starts from, not rescaled.
    """
    schema, frame = events.schema, events.frame
    group = schema.group
    groups = dict(frame.group_by(group).len().sort(group).iter_rows()) if group else {}
    return EventsInfo(
        source=events.source,
        layout=schema.name,
        rows=len(events),
        columns=tuple(frame.columns),
        digest=events.digest,
        labelled=events.labelled,
        weight=_weight_column(events),
        subsets=_subsets(events),
        groups={int(k): int(v) for k, v in groups.items()},
        missing=_missing(frame, group, schema.features),
    )


def _weight_column(events: Events) -> str | None:
    names = (events.schema.subset_weight, events.schema.weight)
    return next((name for name in names if name is not None and name in events.frame.columns), None)


def _subsets(events: Events) -> tuple[SubsetInfo, ...]:
    subset = events.schema.subset
    table = pl.DataFrame({"subset": events.subset if events.subset is not None else ["all"] * len(events)})
    counts = [pl.len().alias("events")]
    if events.labelled:
        # Set by set, the weight that is normalised within the set.
        name = _weight_column(events)
        table = table.with_columns(
            y=pl.Series(events.y), w=pl.lit(1.0) if name is None else events.frame[name].cast(pl.Float64)
        )
        y, w = pl.col("y"), pl.col("w")
        counts += [
            y.sum().alias("signal"),
            (~y).sum().alias("background"),
            w.filter(y).sum().alias("signal_weight"),
            w.filter(~y).sum().alias("background_weight"),
        ]
    rows = {row["subset"]: row for row in table.group_by("subset").agg(counts).iter_rows(named=True)}
    known = [name for name in events.schema.subset_values if name in rows] if subset else []
    ordered = [*known, *sorted(name for name in rows if name not in known)]
    keys = ("signal", "background", "signal_weight", "background_weight")
    return tuple(SubsetInfo(name, rows[name]["events"], *(rows[name].get(k) for k in keys)) for name in ordered)


def _missing(frame: pl.DataFrame, group: str | None, features: tuple[str, ...]) -> dict[str, dict[int | None, int]]:
    with_missing = [name for name in features if frame[name].null_count()]
    if group is None:
        return {name: {None: frame[name].null_count()} for name in with_missing}
    counts = frame.group_by(group).agg(pl.col(with_missing).null_count()).sort(group) if with_missing else None
    if counts is None:
        return {}
    return {name: dict(zip(counts[group].to_list(), counts[name].to_list(), strict=True)) for name in with_missing}
