"""Events whose measured columns stay on disk: what a run needs at once is in memory, the rest comes in parts."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from higgsbench.errors import DataError
from higgsbench.events.cache import ROW_GROUP, cached_file, file_identity
from higgsbench.events.check import check_distinct, column_types
from higgsbench.events.opening import check_name, first_look
from higgsbench.events.read import load_events
from higgsbench.events.stream import EventStream
from higgsbench.events.table import BATCH, Events, digest_of_columns
from higgsbench.files import printable
from higgsbench.schema import ATLAS_HIGGS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from higgsbench.schema import TableSchema

__all__ = ["LARGE_FILE", "StoredEvents", "open_events"]

LARGE_FILE = 1 << 22
"""Bytes from which a file is read part by part; a smaller one is parsed at once, so that its messages come from all of
it, and stays in memory."""


@dataclass(frozen=True)
class StoredEvents(Events):
    """A table of events of which `frame` has the bookkeeping columns only (numbers, labels, weights, subsets, groups).

    Attributes:
        table: Parquet file with all columns of the layout, missing values as null.
        rows: positions of these events in the table, ascending; None for all.
        owner: what keeps the file from being removed, where it is a temporary one.
    """

    table: Path
    rows: NDArray[np.int64] | None = None
    owner: object = None

    def batches(self) -> Iterator[pl.DataFrame]:
        """Yield the table in parts of at most `BATCH` rows, in order, with all columns.

        Raises:
            DataError: if the file is not what it was.
        """
        for first, whole in _parts(self.table):
            if self.rows is None:
                yield whole
                continue
            low, high = np.searchsorted(self.rows, (first, first + whole.height))
            if high > low:
                yield whole[self.rows[low:high] - first]

    def part(self, rows: NDArray[np.int64]) -> pl.DataFrame:
        """Return the rows at some positions, in that order, with all columns."""
        wanted = np.asarray(rows, dtype=np.int64)
        order = np.argsort(wanted, kind="stable")
        chosen = self._positions(wanted[order])
        parts = []
        for first, whole in _parts(self.table):
            low, high = np.searchsorted(chosen, (first, first + whole.height))
            if high > low:
                parts.append(whole[chosen[low:high] - first])
        back = np.empty_like(order)
        back[order] = np.arange(order.size)
        return pl.concat(parts)[back]

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Events:
        """Return the named rows, in the order of the file, as events of their own, with their own digest."""
        index = np.flatnonzero(rows) if rows.dtype == np.bool_ else np.sort(rows).astype(np.int64)
        chosen = self._positions(index)
        return StoredEvents(
            self.frame[index],
            self.schema,
            self.source,
            self.table,
            chosen,
            self.owner,
            known_digest=_digest(self.table, chosen),
        )

    def _positions(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        return index if self.rows is None else self.rows[index]


def open_events(path: str | Path, schema: TableSchema = ATLAS_HIGGS, *, large: int = LARGE_FILE) -> Events:
    """Open an event file as `load_events` does, but leave the measured columns of a large one on disk.

    Its table is the entry in the user's cache, or a temporary file where that cannot be written.

    Args:
        path: CSV, gzipped CSV, Parquet or ROOT; the content decides, not the ending.
        schema: the layout.
        large: size in bytes from which the file is parsed part by part.

    Raises:
        DataError: naming the file, the row and the column of what is wrong.
    """
    check_name(path)
    file = Path(path).expanduser()
    first_look(file, header=schema.header)
    if file.stat().st_size < large:
        return load_events(path, schema)
    identity = file_identity(file, schema)
    try:
        table, digest = cached_file(identity, lambda target: _convert(file, schema, target))
        owner: _Folder | None = None
    except OSError:
        owner = _Folder()
        table = owner.path / "events.parquet"
        digest = _convert(file, schema, table)
    return StoredEvents(_bookkeeping(table, schema), schema, printable(path), table, None, owner, known_digest=digest)


class _Folder:
    """A temporary folder that is removed when nothing refers to it any more."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="higgsbench-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


def _bookkeeping(table: Path, schema: TableSchema) -> pl.DataFrame:
    wanted = (schema.event_id, schema.group, schema.weight, schema.label, schema.subset, schema.subset_weight)
    have = pl.read_parquet_schema(table)
    names = [name for name in dict.fromkeys(wanted) if name is not None and name in have]
    # A layout may have none of these; the height must be known all the same.
    return pl.read_parquet(table, columns=names or list(have)[:1], glob=False, hive_partitioning=False)


def _parts(table: Path) -> Iterator[tuple[int, pl.DataFrame]]:
    lazy = pl.scan_parquet(table, glob=False, hive_partitioning=False)
    try:
        rows = int(lazy.select(pl.len()).collect().item())
        for first in range(0, rows, BATCH):
            yield first, lazy.slice(first, BATCH).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{table}: damaged while it was in use: {str(error).splitlines()[0]}") from error


def _digest(table: Path, rows: NDArray[np.int64] | None = None) -> str:
    """Return the `content_digest` of some rows of a table, one column in memory at a time."""

    def columns() -> Iterator[pl.Series]:
        for name in sorted(pl.read_parquet_schema(table)):
            column = pl.read_parquet(table, columns=[name], glob=False, hive_partitioning=False)[name]
            yield column if rows is None else column[rows]

    return digest_of_columns(columns())


def _convert(file: Path, schema: TableSchema, target: Path) -> str:
    """Parse and check a file part by part into a Parquet file; return the digest of its content.

    Raises:
        DataError: naming the file, the row and the column of what is wrong.
    """
    stream = EventStream(file, schema)
    numbers = []
    with tempfile.TemporaryDirectory(prefix=".tmp-parts-", dir=target.parent) as folder:
        pieces: list[Path] = []
        for frame in stream.batches():
            if schema.event_id is not None:
                numbers.append(frame[schema.event_id])
            pieces.append(Path(folder) / f"{len(pieces)}.parquet")
            # Only what the layout names: the order of the columns is that of `load_events`.
            names = [name for name in column_types(schema) if name in frame.columns]
            frame.select(names).write_parquet(pieces[-1], compression="lz4", statistics=False)
        if schema.event_id is not None:
            check_distinct(pl.concat(numbers), schema, str(file), lines=stream.is_text)
        pl.scan_parquet(pieces, glob=False, hive_partitioning=False).sink_parquet(
            target, compression="lz4", statistics=False, row_group_size=ROW_GROUP
        )
    return _digest(target)
