"""Read event files as Polars frames: CSV, gzipped CSV, Parquet and ROOT, in parts, checked and cached."""

from __future__ import annotations

import tempfile
from bisect import bisect_right
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

import higgsbench.events.cache as event_cache
from higgsbench.errors import DataError
from higgsbench.events.check import (
    Place,
    check_columns,
    check_content,
    check_distinct,
    column_types,
    first_look,
    named_file,
)
from higgsbench.events.formats import ParquetFile, RootFile
from higgsbench.events.samples import SELECTED, Recipe, Sample, present, recognised
from higgsbench.events.table import Events, content_digest
from higgsbench.events.text import EXACT, TextFile
from higgsbench.files import canonical_digest, printable
from higgsbench.schema import TableSchema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["EventStream", "Events", "content_digest", "load_events"]

_BLOCK_BYTES = 1 << 23
_BATCH_ROWS = 1 << 16
_SORTED_ROWS = 1 << 19  # events that are sorted at a time
_RANGE = "# range"  # a name that no layout uses

_ANY = TableSchema("any", (), "")
UNKNOWN = Sample("")
"""Sample of a file that is read on its own."""

LARGE_FILE = 1 << 22  # bytes from which `open_events` leaves the measured columns of a file on disk


class EventStream:
    """An event file as an iterator of checked tables, each a part of the rows in file order.

    Memory use depends on the size of one part, not on the file. Only the columns of the layout are read; whatever
    other columns hold is ignored. Event numbers are compared within a part only.

    Attributes:
        source: name of the file, for messages.
        schema: the layout.
        first_line: number of the line of the first event in text, otherwise None.
        columns: names of all columns of the file, after those that the layout computes.
        held: whether the parts read so far held any event, selected or not.
    """

    def __init__(
        self,
        path: str | Path,
        schema: TableSchema | None = None,
        *,
        columns: Sequence[str] | None = None,
        sample: Sample = UNKNOWN,
        block_bytes: int = _BLOCK_BYTES,
        batch_rows: int = _BATCH_ROWS,
    ) -> None:
        """Open a file far enough to check its header.

        Args:
            path: CSV, gzipped CSV, Parquet or ROOT, recognised by the content. `file.root:tree` names a tree.
            schema: the layout; by default the built-in one of these columns.
            columns: columns of the layout to read where the file has them (`check.without_truth`,
                `check.truth_columns`), and other columns of numbers to read along; all of the layout when None.
            sample: the sample that the file belongs to.
            block_bytes: text parsed at a time.
            batch_rows: rows read at a time from Parquet and ROOT.

        Raises:
            DataError: if the file does not exist, or its header is not of the layout.
        """
        self.source = printable(path)
        schema = self.schema = recognised(path) if schema is None else schema
        self._file = _opened(path, schema, block_bytes, batch_rows)
        self.first_line = self._file.first_line if isinstance(self._file, TextFile) else None
        wanted = [name for name in column_types(schema) if columns is None or name in columns]
        along = [name for name in columns or () if name not in column_types(schema) and name in self._file.columns]
        self._recipe, self._along = Recipe(schema, sample, self._file.columns, wanted, self.source, along), along
        made = self._recipe.made
        self.columns = (*made, *(name for name in self._file.columns if name not in made))
        check_columns(self.columns, schema, self.source, wanted)
        self._has_numbers = schema.event_id in wanted and schema.event_id in self.columns
        if not any(name in self.columns for name in wanted):
            raise DataError(f"{self.source}: none of the columns {', '.join(wanted[:5])}; the layout is {schema.name}")
        self.held = False
        self._places: list[Place] = []
        self._starts: list[int] = []

    def batches(
        self, *, check: bool = True, distinct: bool = False, mark: bool = False, may_be_empty: bool = False
    ) -> Iterator[pl.DataFrame]:
        """Read the file from its start.

        Args:
            check: whether to check the values; a second pass over the same file need not.
            distinct: whether to compare the event numbers of all parts at the end, and not only within a part.
            mark: whether to keep events that the layout does not select, and to add the column `SELECTED`.
            may_be_empty: whether the file may have no events.

        Yields:
            Tables with the layout's columns in its order, missing values as null.

        Raises:
            DataError: naming the file, the row and the column of what is wrong.
        """
        self._places, self._starts, rows, numbers, self.held = [], [], 0, [], False
        recipe = self._recipe

        def finish(raw: pl.DataFrame, place: Place) -> tuple[pl.DataFrame, Place]:
            self.held = self.held or raw.height > 0
            raw, place = recipe.apply(raw, place, mark=mark)
            along = raw.select(self._along)
            if self.first_line is not None:  # only the whole file would tell whether all numbers of a column are whole
                along = along.with_columns(pl.exclude(self.schema.ids).cast(pl.Float64))
            frame = normalised(raw, self.schema).hstack(along)
            if check:
                chosen = raw[SELECTED] if mark else None
                checked = frame if chosen is None else frame.filter(chosen)
                rows = None if chosen is None else np.flatnonzero(chosen.to_numpy())
                check_content(checked, self.schema, place if rows is None else replace(place, rows=rows))
            return (frame.with_columns(raw[SELECTED]) if mark else frame), place

        for frame, place in self._file.parts(recipe.read, finish, recipe.vectors):
            self._places.append(place)
            self._starts.append(rows)
            rows += frame.height
            if distinct and self._has_numbers:
                numbers.append(frame[str(self.schema.event_id)])
            yield frame
        if not (self._places or may_be_empty):
            raise DataError(f"{self.source}: no events: the file has a header and nothing below it")
        if numbers:
            check_distinct(pl.concat(numbers), self.schema, self.source, self.row)

    def as_in_file(self, name: str) -> pl.Expr:
        """Return a column of the tables with the file's sentinel and, where the file gives columns types, its type."""
        types = {} if isinstance(self._file, TextFile) or name in self._recipe.made else self._file.kinds
        kind, wanted, missing = types.get(name), column_types(self.schema).get(name), self.schema.missing
        column, number = pl.col(name), kind is not None and (kind.is_numeric() or kind == pl.Boolean())
        if wanted == pl.String() and number:  # categories and labels that are numbers in the file
            column, wanted = column.cast(pl.Float64), pl.Float64()
        if missing is not None and wanted == pl.Float64() and name in self.schema.features and kind != pl.Boolean():
            column = column.fill_null(missing)
        return column.cast(kind, strict=False) if number and kind is not None else column

    def table(self, *, check: bool = True) -> pl.DataFrame:
        """Read the whole file, as `batches` does; event numbers are compared in all of it where values are checked."""
        return pl.concat(list(self.batches(check=check, distinct=check)))

    def row(self, position: int) -> str:
        """Name the row of an event that has been read by its position among them."""
        part = bisect_right(self._starts, position) - 1
        return self._places[part].row(position - self._starts[part])


def _opened(
    path: str | Path,
    schema: TableSchema,
    block_bytes: int = _BLOCK_BYTES,
    batch_rows: int = _BATCH_ROWS,
    tree: str | None = None,
) -> TextFile | ParquetFile | RootFile:
    (file, named), source = named_file(path), printable(path)
    tree = tree or named
    kind = first_look(file)
    if kind == "root":
        return RootFile(file, source, schema, batch_rows=batch_rows, tree=tree)
    if tree is not None:
        raise DataError(f"{source}: not a ROOT file, so it has no tree {tree!r}")
    if kind == "parquet":
        return ParquetFile(file, source, schema, batch_rows=batch_rows)
    return TextFile(file, source, schema, zipped=kind == "gzip", block_bytes=block_bytes)


def numeric_columns(path: str | Path) -> tuple[str, ...]:
    """Return the columns of a file with one number per event; a text file is checked only in its first rows.

    Raises:
        DataError: if the file cannot be read.
    """
    return _opened(path, _ANY).numbers()


def first_rows(path: str | Path, rows: int, tree: str | None = None) -> pl.DataFrame:
    """Return the first rows of a file or of one of its trees: numbers, text, and lists for vectors.

    Raises:
        DataError: if the file cannot be read.
    """
    return _opened(path, _ANY, tree=tree).head(rows)


def load_events(
    path: str | Path, schema: TableSchema | None = None, *, cache: bool = True, columns: Sequence[str] | None = None
) -> Events:
    """Read an event file, check it, and keep the parsed table in the user's cache.

    Args:
        path: CSV, gzipped CSV, Parquet or ROOT, recognised by the content.
        schema: the layout; by default the built-in one that has these columns.
        cache: whether to use the cache of parsed files.
        columns: columns of the layout to read; all when None.

    Returns:
        The events in the order of their numbers (or of the file if they have none), missing values as null.

    Raises:
        DataError: naming the file, the row and the column of what is wrong.

    Example:
        >>> events = higgsbench.load_events("events.csv")
        >>> events.schema.name, len(events.frame), len(events.schema.features)
        ('atlas-higgs-2014', 3000, 30)
    """
    first_look(named_file(path)[0])
    schema = recognised(path) if schema is None else schema

    def parsed() -> pl.DataFrame:
        return in_order(EventStream(path, schema, columns=columns).table(), schema)

    if not cache:
        return Events(parsed(), schema, printable(path))
    frame, digest = event_cache.cached_table(_identity(path, schema, columns), parsed)
    return Events(frame, schema, printable(path), known_digest=digest)


def _identity(path: str | Path, schema: TableSchema, columns: Sequence[str] | None = None) -> str:
    file, tree = named_file(path)
    return event_cache.file_identity(file, schema, columns) + ("" if tree is None else f":{tree}")


def in_order(frame: pl.DataFrame, schema: TableSchema) -> pl.DataFrame:
    """Sort events by their numbers, so that the order of a file's rows has no effect."""
    name = schema.event_id
    return frame if name not in frame.columns or frame[name].is_sorted() else frame.sort(name)


def normalised(raw: pl.DataFrame, schema: TableSchema) -> pl.DataFrame:
    """Order the columns as the layout does, make measured ones Float64, and turn the sentinel into null."""
    columns = []
    for name, kind in column_types(schema).items():
        if name not in raw.columns:
            continue
        # A measurement loses nothing in Float64.
        column = pl.col(name).cast(kind) if kind == pl.Float64() else pl.col(name)
        if name == schema.label and schema.numeric_label:
            text = column.cast(pl.String)
            number = text.str.strip_chars().cast(pl.Float64, strict=False)
            for written in (schema.background, schema.signal):  # 1.000e+00 becomes 1
                if written is not None:
                    text = pl.when(number == float(written)).then(pl.lit(written)).otherwise(text)
            column = text
        if name in schema.categories:
            number = column.cast(pl.Float64, strict=False)
            whole = (number == number.round()) & (number.abs() < EXACT)  # 3 and 3.0 are the same category
            column = pl.when(whole).then(number.cast(pl.Int64, strict=False).cast(pl.String)).otherwise(column)
            missing = (column == "") | number.is_nan().fill_null(False)
            if schema.missing is not None:
                missing |= (number == schema.missing).fill_null(False)
            column = pl.when(~missing).then(column)
        elif name in schema.features and name not in schema.integers and name not in schema.derived:
            column = present(column, schema)
        columns.append(column.alias(name))
    return raw.select(columns)


def open_events(path: str | Path, schema: TableSchema | None = None, *, large: int = LARGE_FILE) -> Events:
    """Open an event file as `load_events` does; from `large` bytes on, its measured columns stay on disk.

    They are in the user's cache, or in a temporary file where that cannot be written.
    """
    file, _ = named_file(path)
    first_look(file)
    schema = recognised(path) if schema is None else schema
    if file.stat().st_size < large:
        return load_events(path, schema)
    return _stored(
        lambda: EventStream(path, schema).batches(distinct=True), _identity(path, schema), schema, printable(path)
    )


def open_samples(samples: Sequence[Sample], schema: TableSchema, *, large: int = LARGE_FILE) -> Events:
    """Open the files of samples as one table; from `large` bytes on, its measured columns stay on disk.

    Args:
        samples: the samples, whose names differ.
        schema: the layout of the table; an expression of it may use any column that all files have.
        large: bytes.

    Raises:
        DataError: naming the file, the row and the column of what is wrong.
    """
    files = [file for sample in samples for file in sample.files]
    for file in files:
        first_look(named_file(file)[0])
    source = f"samples {', '.join(sample.name for sample in samples)}"
    parts = [[*(_identity(f, schema) for f in s.files), s.name, dict(s.constants), dict(s.derived)] for s in samples]
    identity = canonical_digest(parts)
    if sum(named_file(file)[0].stat().st_size for file in files) >= large:
        return _stored(lambda: _sample_batches(samples, schema), identity, schema, source)
    frame, digest = event_cache.cached_table(
        identity, lambda: in_order(pl.concat(list(_sample_batches(samples, schema))), schema)
    )
    return Events(frame, schema, source, known_digest=digest)


def _sample_batches(samples: Sequence[Sample], schema: TableSchema) -> Iterator[pl.DataFrame]:
    """Yield the tables of all files, one sample after the other."""
    streams = [[EventStream(file, schema, sample=sample) for file in sample.files] for sample in samples]
    for sample, files in zip(samples, streams, strict=True):
        numbers, starts, rows, total = [], [], 0, 0.0
        for stream in files:
            starts.append(rows)
            for frame in stream.batches(may_be_empty=True):
                rows += frame.height
                total += 0.0 if schema.weight is None else float(frame[schema.weight].sum())
                if schema.event_id is not None:
                    numbers.append(frame[schema.event_id])
                yield frame

        def row(position: int, files: list[EventStream] = files, starts: list[int] = starts) -> str:
            at = bisect_right(starts, position) - 1
            return f"{files[at].row(position - starts[at])} of {files[at].source}"

        if numbers:
            check_distinct(pl.concat(numbers), schema, f"sample {sample.name}", row)
        sources = ", ".join(stream.source for stream in files)
        if not rows:
            held = any(stream.held for stream in files)
            lost = f"no events pass the selection {schema.select!r} (`data.select`)" if held else "no events"
            raise DataError(f"sample {sample.name} ({sources}): {lost}; correct this or leave out the sample")
        if schema.weight is not None and total == 0.0:
            raise DataError(f"{sources}: the weights of all events sum to 0")


def _stored(batches: Callable[[], Iterator[pl.DataFrame]], identity: str, schema: TableSchema, source: str) -> Events:
    owner: event_cache.TemporaryFolder | None = None
    try:
        table, digest = event_cache.cached_file(identity, lambda target: _convert(batches(), schema, target))
    except OSError:
        owner = event_cache.TemporaryFolder()
        table = owner.path / "events.parquet"
        digest = _convert(batches(), schema, table)
    return event_cache.stored_events(table, digest, schema, source, owner)


def _convert(batches: Iterator[pl.DataFrame], schema: TableSchema, target: Path) -> str:
    """Write checked tables to one Parquet file, sorted by event number; return the digest of its content."""
    with tempfile.TemporaryDirectory(prefix=".tmp-parts-", dir=target.parent) as folder:
        pieces: list[Path] = []
        for frame in batches:
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
