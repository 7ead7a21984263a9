"""The reader of event files: CSV, gzipped CSV, Parquet and ROOT, in parts, checked and cached."""

from __future__ import annotations

import math
import os
import tempfile
from bisect import bisect_right
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

import higgsbench.events.cache as event_cache
from higgsbench.errors import DataError
from higgsbench.events.check import Place, check_columns, check_content, check_distinct, column_types, first_look
from higgsbench.events.formats import ParquetFile, RootFile
from higgsbench.events.recognise import recognised
from higgsbench.events.table import Events
from higgsbench.events.text import TextFile
from higgsbench.files import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from higgsbench.schema import TableSchema

_BLOCK_BYTES = 1 << 23
_BATCH_ROWS = 1 << 16
_EXACT = 2.0**53  # whole numbers below this are exact in double precision
_SORTED_ROWS = 1 << 19  # events that are sorted at a time
_RANGE = "# range"  # a name that no layout has
_SINGLE = 1e38  # single precision holds numbers up to here

LARGE_FILE = 1 << 22  # bytes from which `open_events` leaves the measured columns of a file on disk


class EventStream:
    """An event file as an iterator of checked tables, each a part of the rows in file order.

    Memory use depends on the size of one part, not on the file. Only the columns of the layout are read; whatever
    other columns hold is ignored. Event numbers are compared within a part only.

    Attributes:
        source: name of the file, for messages.
        schema: the layout.
        is_text: whether rows have line numbers.
        columns: names of all columns of the file.
    """

    def __init__(
        self,
        path: str | Path,
        schema: TableSchema | None = None,
        *,
        columns: Sequence[str] | None = None,
        block_bytes: int = _BLOCK_BYTES,
        batch_rows: int = _BATCH_ROWS,
    ) -> None:
        """Open a file far enough to check its header.

        Args:
            path: CSV, gzipped CSV, Parquet or ROOT; the content decides, not the ending.
            schema: the layout; by default the built-in one of these columns.
            columns: columns of the layout to read where the file has them (`check.without_truth`,
                `check.truth_columns`); all when None.
            block_bytes: text parsed at a time.
            batch_rows: rows read at a time from Parquet and ROOT.

        Raises:
            DataError: if the file does not exist, or its header is not of the layout.
        """
        file = _named_file(path)
        self.source = printable(path)
        schema = self.schema = recognised(path) if schema is None else schema
        kind = first_look(file)
        self.is_text = kind in ("text", "gzip")
        self._file: TextFile | ParquetFile | RootFile
        if self.is_text:
            self._file = TextFile(file, self.source, schema, zipped=kind == "gzip", block_bytes=block_bytes)
        else:
            opened = ParquetFile if kind == "parquet" else RootFile
            self._file = opened(file, self.source, schema, batch_rows=batch_rows)
        self.columns = self._file.columns
        wanted = [name for name in column_types(schema) if columns is None or name in columns]
        check_columns(self.columns, schema, self.source, wanted)
        self._read = [name for name in wanted if name in self.columns]
        if not self._read:
            raise DataError(f"{self.source}: none of the columns {', '.join(wanted[:5])}; the layout is {schema.name}")
        self._places: list[Place] = []

    def batches(self, *, check: bool = True, distinct: bool = False) -> Iterator[pl.DataFrame]:
        """Read the file from its start.

        Args:
            check: whether to check the values; a second pass over the same file need not.
            distinct: whether to compare the event numbers of all parts at the end, and not only within a part.

        Yields:
            Tables with the layout's columns in its order, missing values as null.

        Raises:
            DataError: naming the file, the row and the column of what is wrong.
        """

        def finish(raw: pl.DataFrame, place: Place) -> pl.DataFrame:
            frame = normalised(raw, self.schema)
            if check:
                check_content(frame, self.schema, place)
            return frame

        self._places, numbers = [], []
        for frame, place in self._file.parts(self._read, finish):
            self._places.append(place)
            if distinct and self.schema.event_id in self._read:
                numbers.append(frame[self.schema.event_id])
            yield frame
        if not self._places:
            raise DataError(f"{self.source}: no events: the file has a header and nothing below it")
        if numbers:
            check_distinct(pl.concat(numbers), self.schema, self.source, self.row)

    def table(self, *, check: bool = True) -> pl.DataFrame:
        """Read the whole file, as `batches` does; event numbers are compared in all of it where values are checked."""
        return pl.concat(list(self.batches(check=check, distinct=check)))

    def row(self, position: int) -> str:
        """Name a row that has been read by its position in the file."""
        place = self._places[bisect_right(self._places, position, key=lambda part: part.first_row) - 1]
        return place.row(position - place.first_row)


def _named_file(path: object) -> Path:
    if not isinstance(path, (str, os.PathLike)):
        raise DataError(f"path: expected the name of a file, got {str(path)[:60]!r} (a {type(path).__name__})")
    if path == "":
        raise DataError("the file name is empty")
    return Path(path).expanduser()


def load_events(
    path: str | Path, schema: TableSchema | None = None, *, cache: bool = True, columns: Sequence[str] | None = None
) -> Events:
    """Read an event file, check it, and keep the parsed table in the user's cache.

    Args:
        path: CSV, gzipped CSV, Parquet or ROOT; the content decides, not the ending.
        schema: the layout; by default the built-in one that has these columns.
        cache: whether to use the cache of parsed files.
        columns: columns of the layout to read; all when None.

    Returns:
        The events in the order of their numbers (of the file where they have none), missing values as null.

    Raises:
        DataError: naming the file, the row and the column of what is wrong.
    """
    file = _named_file(path)
    first_look(file)
    schema = recognised(path) if schema is None else schema

    def parsed() -> pl.DataFrame:
        return in_order(EventStream(file, schema, columns=columns).table(), schema)

    if not cache:
        return Events(parsed(), schema, printable(path))
    frame, digest = event_cache.cached_table(event_cache.file_identity(file, schema, columns), parsed)
    return Events(frame, schema, printable(path), known_digest=digest)


def in_order(frame: pl.DataFrame, schema: TableSchema) -> pl.DataFrame:
    """Sort events by their numbers, so that the order of a file's rows decides nothing."""
    name = schema.event_id
    return frame if name not in frame.columns or frame[name].is_sorted() else frame.sort(name)


def normalised(raw: pl.DataFrame, schema: TableSchema) -> pl.DataFrame:
    """Order the columns as the layout does and turn the sentinel into null."""
    columns = []
    for name in column_types(schema):
        if name not in raw.columns:
            continue
        column = pl.col(name)
        if name == schema.label and schema.numeric_label:
            text = column.cast(pl.String)
            number = text.str.strip_chars().cast(pl.Float64, strict=False)
            for written in (schema.background, schema.signal):  # 1.000e+00 becomes 1
                if written is not None:
                    text = pl.when(number == float(written)).then(pl.lit(written)).otherwise(text)
            column = text
        if name in schema.categories:
            number = column.cast(pl.Float64, strict=False)
            whole = (number == number.round()) & (number.abs() < _EXACT)  # 3 and 3.0 are the same category
            column = pl.when(whole).then(number.cast(pl.Int64, strict=False).cast(pl.String)).otherwise(column)
            if schema.missing is not None:
                column = pl.when((number == schema.missing).fill_null(False).not_()).then(column)
        elif schema.missing is not None and name in schema.features and name not in schema.integers:
            # The sentinel, or what single precision makes of it.
            single = float(np.float32(schema.missing)) if abs(schema.missing) < _SINGLE else schema.missing
            missing = (column == schema.missing) | (column == single)
            if math.isnan(schema.missing):
                missing = column.is_nan()
            column = pl.when(~missing).then(column)
        columns.append(column.alias(name))
    return raw.select(columns)


def open_events(path: str | Path, schema: TableSchema | None = None, *, large: int = LARGE_FILE) -> Events:
    """Open an event file as `load_events` does; from `large` bytes on, its measured columns stay on disk.

    They are in the user's cache, or in a temporary file where that cannot be written.
    """
    file = _named_file(path)
    first_look(file)
    schema = recognised(path) if schema is None else schema
    if file.stat().st_size < large:
        return load_events(path, schema)
    owner: event_cache.TemporaryFolder | None = None
    try:
        table, digest = event_cache.cached_file(
            event_cache.file_identity(file, schema), lambda target: _convert(file, schema, target)
        )
    except OSError:
        owner = event_cache.TemporaryFolder()
        table = owner.path / "events.parquet"
        digest = _convert(file, schema, table)
    return event_cache.stored_events(table, digest, schema, printable(path), owner)


def _convert(file: Path, schema: TableSchema, target: Path) -> str:
    """Parse and check a file part by part into a Parquet file, sorted by number; return the digest of its content."""
    with tempfile.TemporaryDirectory(prefix=".tmp-parts-", dir=target.parent) as folder:
        pieces: list[Path] = []
        for frame in EventStream(file, schema).batches(distinct=True):
            pieces.append(Path(folder) / f"{len(pieces)}.parquet")
            frame.write_parquet(pieces[-1], compression="lz4", statistics=False)
        pl.scan_parquet(_sorted_pieces(pieces, schema), glob=False, hive_partitioning=False).sink_parquet(
            target, compression="lz4", statistics=False, row_group_size=event_cache.ROW_GROUP
        )
    return event_cache.stored_digest(target)


def _sorted_pieces(pieces: list[Path], schema: TableSchema) -> list[Path]:
    """Sort events across files in memory for a few of them: cut each at common numbers, then sort range by range."""
    name = schema.event_id
    if name is None:
        return pieces
    table = pl.scan_parquet(pieces, glob=False, hive_partitioning=False)
    if name not in table.collect_schema() or (numbers := table.select(name).collect()[name]).is_sorted():
        return pieces
    bounds = numbers.sort().gather_every(_SORTED_ROWS)[1:]
    ranges: list[list[Path]] = [[] for _ in range(len(bounds) + 1)]
    for piece in pieces:
        frame = pl.read_parquet(piece, glob=False, hive_partitioning=False)
        frame = frame.with_columns(bounds.search_sorted(frame[name], side="right").alias(_RANGE))
        for (at,), part in frame.partition_by(_RANGE, as_dict=True, include_key=False).items():
            ranges[at].append(piece.with_suffix(f".{at}"))
            part.write_parquet(ranges[at][-1], compression="lz4", statistics=False)
        piece.unlink()
    for files in ranges:
        part = pl.read_parquet(files, glob=False, hive_partitioning=False).sort(name)
        part.write_parquet(files[0], compression="lz4", statistics=False)
    return [files[0] for files in ranges]
