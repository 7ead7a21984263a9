"""One part of an event file as arrays, and the random numbers that belong to its rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from higgsbench.schema import TableSchema

__all__ = ["BACKGROUND", "CLASS_NAMES", "SIGNAL", "UNLABELLED", "Batch", "Source", "Stream", "row_uniform"]

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
