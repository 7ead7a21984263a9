"""Events in memory: a Polars frame whose columns mean what its schema says, and a summary of what it holds."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from higgsbench.errors import DataError
from higgsbench.events.shifts import recognise_processes
from higgsbench.schema import ATLAS_HIGGS, MOST_CATEGORIES, SCHEMAS, SIMULATED_FROM, is_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from higgsbench.schema import TableSchema

MOST_PROCESSES = 256  # a column with more values holds event numbers or measurements
BATCH = 1 << 14  # events of a table that are processed together where not all of them are needed at once


def content_digest(frame: pl.DataFrame) -> str:
    """SHA-256 over column names, types and values; independent of path, compression, file format and chunking."""
    return digest_of_columns(frame[name] for name in sorted(frame.columns))


def digest_of_columns(columns: Iterable[pl.Series]) -> str:
    """Return the `content_digest` of a table given column by column, in the order of their names."""
    h = hashlib.sha256()
    for column in columns:
        h.update(f"{column.name}:{column.dtype}:{len(column)};".encode())
        if column.null_count():
            h.update(np.packbits(column.is_null().to_numpy()).tobytes())
        if column.dtype == pl.String:
            # Polars' own join panics on some columns (1.37).
            h.update("\n".join(column.fill_null("").to_list()).encode())
        else:
            values = column.fill_null(0).to_numpy()
            h.update(np.ascontiguousarray(values + 0).data)  # + 0 makes -0.0 and 0.0 the same content
    return h.hexdigest()


def in_order(values: Iterable[str]) -> tuple[str, ...]:
    """Return the values of a categorical column in order: numbers by size, then text."""
    return tuple(sorted(values, key=lambda v: (not is_number(v), float(v) if is_number(v) else 0.0, v)))


@dataclass(frozen=True)
class Events:
    """A table of events; missing values are null, never a sentinel number.

    Attributes:
        frame: one row per event, columns of `schema`.
        schema: what the columns mean.
        source: where the events came from, for messages.
        known_digest: the digest where it is known.

    Example:
        >>> events = higgsbench.load_events("events.csv")
        >>> signal = events.frame.filter(events.y)
        >>> print(round(float(events.weight[events.y].sum()), 2))  # expected signal in the data of 2012
        691.99
    """

    frame: pl.DataFrame
    schema: TableSchema
    source: str
    known_digest: str | None = field(default=None, repr=False, compare=False, kw_only=True)

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the content, which identifies the data in every result."""
        return self.known_digest or content_digest(self.frame)

    @property
    def simulated(self) -> bool:
        """Whether the toy simulation made any of the events; such results are never ranked together with real data.

        The toy numbers its events from `SIMULATED_FROM` on, which survives every conversion between formats.
        """
        if self.schema.name != ATLAS_HIGGS.name or self.schema.event_id not in self.frame.columns:
            return False
        return bool((self.frame[self.schema.event_id] >= SIMULATED_FROM).any())

    def __len__(self) -> int:
        return self.frame.height

    @property
    def labelled(self) -> bool:
        """Whether the truth is known."""
        return self.schema.label in self.frame.columns

    @property
    def y(self) -> NDArray[np.bool_]:
        """(n,) truth, True for signal.

        Raises:
            DataError: if the events carry no label.
        """
        if not self.labelled:
            raise DataError(f"{self.source}: no column {self.schema.label}, so these events cannot train or be scored")
        return (self.frame[self.schema.label].cast(pl.String) == self.schema.signal).to_numpy()

    @property
    def weight(self) -> NDArray[np.float64]:
        """(n,) weights for evaluation before rescaling to the reference totals.

        The subset weight (KaggleWeight) if the file has it and the events are of one subset, otherwise the weight: a
        subset weight is normalised within its subset and would count small subsets too much.
        """
        name = self.weight_column
        return np.ones(len(self)) if name is None else self.frame[name].cast(pl.Float64).to_numpy()

    @property
    def weight_column(self) -> str | None:
        """Column that `weight` is read from, None where every event counts one."""
        names = (self.schema.subset_weight, self.schema.weight)
        subset = self.schema.subset
        if subset in self.frame.columns and self.frame[subset].n_unique() > 1:
            names = (self.schema.weight, self.schema.subset_weight)
        return next((name for name in names if name is not None and name in self.frame.columns), None)

    @property
    def event_id(self) -> NDArray[np.int64]:
        """(n,) unique event numbers; the row number where the layout has none."""
        name = self.schema.event_id
        if name is None or name not in self.frame.columns:
            return np.arange(len(self), dtype=np.int64)
        return self.frame[name].cast(pl.Int64).to_numpy()

    @property
    def group(self) -> NDArray[np.int64] | None:
        """(n,) group number of each event (the jet number), or None where the layout has no groups."""
        name = self.schema.group
        return None if name is None else self.frame[name].cast(pl.Int64).to_numpy()

    @property
    def subset(self) -> NDArray[np.str_] | None:
        """(n,) name of each event's subset (KaggleSet), or None where the file has none."""
        name = self.schema.subset
        if name is None or name not in self.frame.columns:
            return None
        return np.asarray(self.frame[name].to_numpy(), dtype=np.str_)

    @property
    def process(self) -> pl.Series | None:
        """(n,) name of each event's physics process, or None if it is not known.

        It comes from the column that the layout names. Without one, the weights identify the processes of the
        challenge (see `recognise_processes`), unless they have other ratios.

        Raises:
            DataError: if the column has too many values, or is missing in a layout of the user.
        """
        name, weight, label = self.schema.process, self.weight_column, self.schema.label
        if name in self.frame.columns:
            if (many := self.frame[name].n_unique()) > MOST_PROCESSES:
                what = f"{many:,} values; a column of process names has at most {MOST_PROCESSES}"
                raise DataError(f"{self.source}: column {name} has {what}")
            return self.frame[name].fill_null("unknown")
        if name is not None and self.schema.name not in SCHEMAS:
            raise DataError(f"{self.source}: no column {name}, which the layout names as the process")
        if self.schema.name != ATLAS_HIGGS.name or weight is None or not self.labelled:
            return None
        try:
            return recognise_processes(self.frame[weight], self.frame[label].cast(pl.String))
        except DataError:
            return None

    def totals(self) -> tuple[float, float]:
        """Reference totals (N_s, N_b): the schema's, otherwise the sums over the labelled events."""
        n_s, n_b = self.schema.n_s, self.schema.n_b
        if n_s is None or n_b is None:
            y, w = self.y, self.weight
            n_s = n_s if n_s is not None else float(np.sum(w[y]))
            n_b = n_b if n_b is not None else float(np.sum(w[~y]))
        return n_s, n_b

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Events:
        """Return some rows as separate events."""
        index = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        return Events(self.frame[index], self.schema, self.source)

    def with_categories(self) -> Events:
        """Return the same events with the values of all categorical features in the layout; find unknown ones.

        Raises:
            DataError: if a column has no values, or too many for a categorical feature.
        """
        unknown = [name for name, values in self.schema.categories.items() if not values]
        found = dict(self.schema.categories)
        for name in unknown:
            values = self.lazy().select(pl.col(name).drop_nulls().unique()).collect()[name].to_list()
            if not 0 < len(values) <= MOST_CATEGORIES:
                many = f"more than {MOST_CATEGORIES} ({len(values):,}) different" if values else "no"
                raise DataError(
                    f"{self.source}: categorical column {name} has {many} values; leave it out of `categorical`"
                )
            found[name] = in_order(values)
        return replace(self, schema=replace(self.schema, categories=found)) if unknown else self

    def lazy(self) -> pl.LazyFrame:
        """Return all columns of these events, in order, as a query."""
        return self.frame.lazy()

    def batches(self) -> Iterator[pl.DataFrame]:
        """Yield the table in parts of at most `BATCH` rows, in order, with all columns."""
        yield from self.frame.iter_slices(BATCH)

    def part(self, rows: NDArray[np.int64]) -> pl.DataFrame:
        """Return the rows at some positions, in that order, with all columns."""
        return self.frame[rows]

    def in_subsets(self, names: Sequence[str]) -> NDArray[np.bool_]:
        """(n,) whether each event belongs to one of the named subsets.

        Raises:
            DataError: if the events carry no subset column.
        """
        subset = self.subset
        if subset is None:
            raise DataError(
                f"{self.source}: no column {self.schema.subset}, so no subsets {list(names)} to choose from"
            )
        return np.isin(subset, list(names))


def describe(events: Events) -> dict[str, Any]:
    """Count what the events hold.

    Returns:
        JSON-ready content: `source`, `layout`, `rows`, `columns`, `digest`, `labelled`, `weight` (column of the weights
        that evaluation starts from, or None), `subsets` (rows of counts and sums of weights by class, one row called
        "all" without subsets), `groups` (number of events by jet number) and `missing` (by column with missing
        values, their number by jet number, or under "None" without groups).
    """
    schema, frame, group = events.schema, events.frame, events.schema.group
    # Subset by subset, the weight that is normalised within the subset comes first.
    weight = next((name for name in (schema.subset_weight, schema.weight) if name in frame.columns), None)
    names = [name for name in schema.features if frame[name].null_count()]
    groups: dict[str, int] = {}
    missing = {name: {"None": frame[name].null_count()} for name in names}
    if group is not None:
        counts = frame.group_by(group).agg(pl.len().alias("# events"), pl.col(names).null_count()).sort(group)
        counts = counts.with_columns(pl.col(group).cast(pl.String))
        groups = dict(counts.select(group, "# events").iter_rows())
        missing = {name: dict(counts.select(group, name).iter_rows()) for name in names}
    return {
        "source": events.source,
        "layout": schema.name,
        "rows": len(events),
        "columns": frame.columns,
        "digest": events.digest,
        "labelled": events.labelled,
        "weight": weight,
        "subsets": _subsets(events, weight),
        "groups": groups,
        "missing": missing,
    }


def _subsets(events: Events, weight: str | None) -> list[dict[str, Any]]:
    table = pl.DataFrame({"name": events.subset if events.subset is not None else ["all"] * len(events)})
    names = ("signal", "background", "signal_weight", "background_weight")
    if events.labelled:
        table = table.with_columns(
            y=pl.Series(events.y), w=pl.lit(1.0) if weight is None else events.frame[weight].cast(pl.Float64)
        )
        y, w = pl.col("y"), pl.col("w")
        sums = (y.sum(), (~y).sum(), w.filter(y).sum(), w.filter(~y).sum())
    else:
        sums = (pl.lit(None),) * 4
    counts = [pl.len().alias("events"), *(value.alias(name) for name, value in zip(names, sums, strict=True))]
    found = {row["name"]: row for row in table.group_by("name").agg(counts).iter_rows(named=True)}
    known = [name for name in events.schema.subset_values if name in found]
    return [found[name] for name in (*known, *sorted(set(found) - set(known)))]
