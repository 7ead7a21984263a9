"""The reader of event files: CSV, gzipped CSV, Parquet and ROOT, in parts, checked and cached."""

from __future__ import annotations

import gzip
import math
import os
import shutil
import tempfile
import weakref
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from higgsbench.errors import DataError
from higgsbench.events.cache import ROW_GROUP, cached_file, cached_frame, file_identity
from higgsbench.events.check import (
    check_columns,
    check_content,
    check_distinct,
    check_gzip_end,
    check_gzip_size,
    check_name,
    column_types,
    first_look,
    gzip_fault,
    where,
)
from higgsbench.events.formats import as_layout, parse_parquet, parse_root
from higgsbench.events.table import BATCH, Events, digest_of_columns
from higgsbench.files import no_panic, printable
from higgsbench.schema import ATLAS_HIGGS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from higgsbench.schema import TableSchema

__all__ = [
    "LARGE_FILE",
    "EventStream",
    "StoredEvents",
    "load_events",
    "normalised",
    "open_events",
    "parse_file",
    "read_header",
    "read_table",
    "read_text",
    "unreadable",
]


_HEADER_LIMIT = 1 << 16
_EXACT = 2.0**53
"""Whole numbers below this are exact in double precision."""


def load_events(path: str | Path, schema: TableSchema = ATLAS_HIGGS, *, cache: bool = True) -> Events:
    """Read an event file, check it, and keep the parsed table in the user's cache.

    Args:
        path: CSV, gzipped CSV, Parquet or ROOT; the content decides, not the ending.
        schema: the layout; the challenge's own by default.
        cache: whether to use the cache of parsed files.

    Returns:
        The events, missing values as null.

    Raises:
        DataError: naming the file, the row and the column of what is wrong.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise DataError(f"path: expected the name of a file, got {str(path)[:60]!r} (a {type(path).__name__})")
    check_name(path)
    file = Path(path).expanduser()
    first_look(file, header=schema.header)
    if not cache:
        return Events(parse_file(file, schema), schema, printable(path))
    frame, digest = cached_frame(file, schema, parse_file)
    return Events(frame, schema, printable(path), known_digest=digest)


def parse_file(file: Path, schema: TableSchema) -> pl.DataFrame:
    """Parse and check one file without the cache.

    Raises:
        DataError: naming the file, the row and the column of what is wrong.
    """
    frame, is_text = read_table(file, schema)
    check_content(frame, schema, str(file), lines=is_text)
    return frame


def read_table(file: Path, schema: TableSchema) -> tuple[pl.DataFrame, bool]:
    """Parse one file into the layout's columns without judging its values.

    Returns:
        The table, missing values as null, and whether the file is text (so that its rows have line numbers).

    Raises:
        DataError: naming the file, the row and the column of what cannot be parsed.
    """
    magic = first_look(file, header=schema.header)
    # A ROOT file goes on with a big-endian version number; a text may begin with the word.
    is_root, is_parquet = magic == b"root\x00", magic[:4] == b"PAR1"
    is_text = not (is_root or is_parquet) and schema.header
    if is_parquet:
        raw = parse_parquet(file, schema)
    elif is_root:
        raw = parse_root(file, schema)
    else:
        raw = _parse_csv(file, schema, zipped=magic[:2] == b"\x1f\x8b")
    check_columns(raw.columns, schema, str(file))
    return normalised(raw, schema), is_text


def normalised(raw: pl.DataFrame, schema: TableSchema) -> pl.DataFrame:
    """Order the columns as the schema does and turn the sentinel into null."""
    columns = []
    for name in column_types(schema):
        if name not in raw.columns:
            continue
        column = pl.col(name)
        if name == schema.label and schema.numeric_label:
            column = _label_text(schema)
        if schema.missing is not None and name in schema.features and name not in schema.integers:
            # ne_missing would keep NaN; a sentinel of NaN is compared as such.
            missing = column.is_nan() if math.isnan(schema.missing) else column == schema.missing
            column = pl.when(~missing).then(column)
        columns.append(column.alias(name))
    return raw.select(columns)


def _label_text(schema: TableSchema) -> pl.Expr:
    """Write numeric labels as the layout writes them: 1.000e+00 becomes 1."""
    number = pl.col(schema.label).cast(pl.String).str.strip_chars().cast(pl.Float64, strict=False)
    text: pl.Expr = pl.col(schema.label).cast(pl.String)
    if schema.background is not None:
        text = pl.when(number == float(schema.background)).then(pl.lit(schema.background)).otherwise(text)
    return pl.when(number == float(schema.signal)).then(pl.lit(schema.signal)).otherwise(text)


def read_header(file: Path, *, zipped: bool) -> list[str]:
    """Return the column names in the first line of a text file.

    Raises:
        DataError: if the line is no header.
    """
    try:
        with gzip.open(file, "rb") if zipped else file.open("rb") as stream:
            line = stream.readline(_HEADER_LIMIT)
        if zipped and line[:2] == b"\x1f\x8b":
            raise DataError(f"{file}: compressed twice; unpack it once")
        if zipped and line[:4] == b"PK\x03\x04":
            raise DataError(f"{file}: a zip archive inside gzip; unpack it first")
        text = line.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file}: damaged or incomplete gzip file: {gzip_fault(error)}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: line 1 is not UTF-8 text: no event file, or in another encoding") from error
    if "\x00" in text or (len(line) == _HEADER_LIMIT and not line.endswith(b"\n")):
        raise DataError(f"{file}: line 1 is no header of column names")
    if not text.strip():
        raise DataError(f"{file}: line 1 is empty, expected the column names")
    names = text.rstrip("\r\n").split(",")
    spaced = [name.strip().strip('"') for name in names if name != name.strip()]
    if spaced and not set("{}<>") & set(text):  # JSON and web pages are no event files at all
        more = f" and {len(spaced) - 1} more" if len(spaced) > 1 else ""
        raise DataError(
            f"{file}: line 1: there are blanks around the column name {spaced[0][:60]!r}{more}; write names and values "
            "without blanks beside the commas"
        )
    return [name.strip().strip('"') for name in names]


def _parse_csv(file: Path, schema: TableSchema, *, zipped: bool) -> pl.DataFrame:
    header = read_header(file, zipped=zipped) if schema.header else list(schema.columns)
    check_columns(header, schema, str(file))
    if zipped:
        check_gzip_size(file)
    else:
        with file.open("rb") as stream:
            stream.seek(max(0, file.stat().st_size - 2))
            check_end(stream.read(), str(file))
    types = column_types(schema)
    wanted = [name for name in header if name in types]
    try:
        layout = {name: types.get(name, pl.String()) for name in header}
        raw = read_text(file, layout, wanted, header=schema.header)
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        _explain(file, header, schema, error)
        raise DataError(f"{file}: cannot be parsed as CSV: {str(error).splitlines()[0]}") from error
    check_empty_cells(raw, schema, str(file))
    return raw


def check_end(tail: bytes, source: str) -> None:
    """Refuse a text whose last two bytes open a quoted cell: Polars panics over it.

    Raises:
        DataError: naming the file.
    """
    if tail[-1:] == b'"' and tail[-2:-1] in (b",", b"\n", b""):
        raise DataError(f"{source}: the last line ends inside a quoted cell: the file is cut off")


def read_text(
    source: Path | bytes, layout: Mapping[str, pl.DataType], wanted: list[str], *, header: bool
) -> pl.DataFrame:
    """Parse text of comma-separated values; a whole number may be written with a point, as 2.0.

    Args:
        source: file or text.
        layout: type of every column, in file order.
        wanted: columns to keep.
        header: whether the first line holds names.

    Raises:
        PolarsError: if a cell is not of its column's type.
    """
    chosen = wanted if len(wanted) < len(layout) else None
    if isinstance(source, Path):
        source = source.absolute()  # Polars 1.37 cuts the first bytes of a name, even inside a letter
    try:
        with no_panic():
            return pl.read_csv(source, schema=layout, columns=chosen, has_header=header, glob=False)
    except pl.exceptions.PolarsError:
        whole = [name for name in wanted if layout[name] == pl.Int64()]
        loose = {name: pl.Float64() if name in whole else kind for name, kind in layout.items()}
        raw = pl.read_csv(source, schema=loose, columns=chosen, has_header=header, glob=False)
        if not raw.select(pl.all_horizontal(_is_whole(pl.col(whole)).all())).item():
            raise
        return raw.with_columns(pl.col(whole).cast(pl.Int64))


def _is_whole(number: pl.Expr) -> pl.Expr:
    """Whether a number is whole and small enough to be told from its neighbours; true where there is none."""
    return ((number == number.round(0)) & (number.abs() < _EXACT)).fill_null(value=True)


def check_empty_cells(raw: pl.DataFrame, schema: TableSchema, source: str, first_row: int = 0) -> None:
    """Refuse empty cells of a text file, unless the layout reads them as missing.

    Raises:
        DataError: naming the file, the row and the column.
    """
    filled = [name for name in raw.columns if not (schema.empty_is_missing and name in schema.features)]
    empty = raw.select([pl.col(name).is_null().any() for name in filled]).row(0) if filled else ()
    for name, bad in zip(filled, empty, strict=True):
        if bad:
            row = first_row + int(raw[name].is_null().arg_max() or 0)
            measured = schema.missing is not None and name in schema.features and name not in schema.integers
            hint = f"; a value that could not be measured is written {schema.missing}" if measured else ""
            raise DataError(f"{source}: {where(row, lines=schema.header)}, column {name}: empty{hint}")


def _explain(file: Path, header: list[str], schema: TableSchema, error: Exception) -> None:
    """Find the first cell that made the parser stop, and say which; return if there is none to be found."""
    try:
        raw = pl.read_csv(
            file.absolute(), has_header=schema.header, infer_schema=False, truncate_ragged_lines=True, glob=False
        )
    except OSError as damage:  # damaged bytes may first look like too many values, and only then fail a checksum
        check_gzip_end(file)
        raise DataError(f"{file}: damaged or incomplete file: {damage}") from error
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, ValueError):
        row = _first_line(file, _is_foreign)
        if row is not None:
            at = where(row - schema.header, lines=schema.header)
            raise DataError(f"{file}: {at}: not UTF-8 text") from error
        _refuse_open_quote(file, schema, error)
        return
    types = column_types(schema)
    first: tuple[int, str] | None = None
    for name, column in zip(header, raw.iter_columns(), strict=False):
        if types.get(name, pl.String()) == pl.String():
            continue
        bad = unreadable(column, types[name])
        row = bad.arg_max()
        if row is not None and bad[row] and (first is None or row < first[0]):
            first = (row, name)
    # Behind an open quote, cells hold what belongs to others.
    _refuse_open_quote(file, schema, error, None if first is None else first[0])
    if first is not None:
        row, name = first
        wanted = "a whole number" if types[name] == pl.Int64() else "a number"
        value = str(raw[:, header.index(name)][row])[:40]
        raise DataError(
            f"{file}: {where(row, lines=schema.header)}, column {name}: {value!r} is not {wanted}"
        ) from error
    if "more fields" in str(error):
        row = _first_line(file, lambda line: line.count(b",") >= len(header))
        at = f"{where(row - schema.header, lines=schema.header)}: " if row is not None else ""
        raise DataError(f"{file}: {at}more values than the {len(header)} columns of the layout") from error


def _refuse_open_quote(file: Path, schema: TableSchema, error: Exception, before: int | None = None) -> None:
    """Refuse a file in which a quote is opened and not closed in its line, at or before a row if one is given."""
    line = _first_line(file, has_open_quote)
    if line is not None and (before is None or line - schema.header <= before):
        at = "line 1" if line < schema.header else where(line - schema.header, lines=schema.header)
        raise DataError(f"{file}: {at}: unclosed quote") from error


def has_open_quote(line: bytes) -> bool:
    """Whether a quote of a line of text is not closed in it."""
    return line.count(b'"') % 2 == 1


def unreadable(cells: pl.Series, kind: pl.DataType) -> pl.Series:
    """Return which of the cells of text hold no number of the type; empty ones are another matter."""
    text = cells.str.strip_chars_start()
    number = text.cast(pl.Float64, strict=False)
    lost = number.is_null()
    if kind == pl.Int64():
        loose = pl.select(_is_whole(pl.lit(number))).to_series()
        lost = text.cast(pl.Int64, strict=False).is_null() & (lost | ~loose)
    return cells.is_not_null() & lost


def _is_foreign(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return True
    return False


def _first_line(file: Path, bad: Callable[[bytes], bool]) -> int | None:
    """Return the number (0-based) of the first line that is bad; None if there is none or the file is damaged."""
    with file.open("rb") as probe:
        zipped = probe.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(file, "rb") if zipped else file.open("rb") as stream:
            return next((number for number, line in enumerate(stream) if bad(line)), None)
    except (OSError, EOFError, zlib.error):
        return None


_BLOCK_BYTES = 1 << 24
_BATCH_ROWS = 1 << 16
_LONGEST_LINE = 1 << 26
_GZIP = b"\x1f\x8b"


def _ahead(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Read one block ahead in a second thread, so that unpacking and parsing overlap."""
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, blocks, b"")
        while block := coming.result():
            coming = reader.submit(next, blocks, b"")
            yield block


class EventStream:
    """An event file as an iterator of checked tables, each a part of the rows in file order.

    Memory use depends on the size of one part, not on the file; only a ROOT file is read as a whole. Every
    rule of `load_events` is checked but one: event
    numbers are compared within a part only.
    """

    def __init__(
        self,
        path: str | Path,
        schema: TableSchema = ATLAS_HIGGS,
        *,
        block_bytes: int = _BLOCK_BYTES,
        batch_rows: int = _BATCH_ROWS,
    ) -> None:
        """Open a file far enough to check its header.

        Args:
            path: CSV, gzipped CSV, Parquet or ROOT; the content decides, not the ending.
            schema: the layout.
            block_bytes: text parsed at a time.
            batch_rows: rows read at a time from Parquet.

        Raises:
            DataError: if the file is absent, or its header is not of the layout.
        """
        check_name(path)
        self.file = Path(path).expanduser()
        self.source = printable(path)
        self.schema = schema
        self.block_bytes = block_bytes
        self.batch_rows = batch_rows
        magic = first_look(self.file, header=schema.header)
        self.is_text = magic != b"root\x00" and magic[:4] != b"PAR1"
        self._whole = parse_root(self.file, schema) if magic == b"root\x00" else None
        self._zipped = magic[:2] == _GZIP
        self.columns = self._columns()
        check_columns(self.columns, schema, self.source)

    def _columns(self) -> tuple[str, ...]:
        if self.is_text:
            return tuple(read_header(self.file, zipped=self._zipped)) if self.schema.header else self.schema.columns
        if self._whole is not None:
            return tuple(self._whole.columns)
        try:
            with no_panic():
                return tuple(pl.read_parquet_schema(self.file))
        except (pl.exceptions.PolarsError, OSError, ValueError) as error:
            message = str(error).splitlines()[0]
            raise DataError(f"{self.source}: damaged or not a Parquet file: {message}") from error

    @property
    def labelled(self) -> bool:
        """Whether the truth is known."""
        return self.schema.label in self.columns

    def batches(self, *, check: bool = True) -> Iterator[pl.DataFrame]:
        """Read the file from its start.

        Args:
            check: whether to check the values; a second pass over the same file need not.

        Yields:
            Tables with the layout's columns, missing values as null.

        Raises:
            DataError: naming the file, the row and the column of what is wrong.
        """
        first_row = 0
        for raw in self._csv(check=check) if self.is_text else self._typed():
            frame = normalised(raw, self.schema)
            if check:
                check_content(frame, self.schema, self.source, lines=self.is_text, first_row=first_row)
            first_row += frame.height
            yield frame
        if first_row == 0:
            raise DataError(f"{self.source}: no events: the file has a header and nothing below it")

    def _typed(self) -> Iterator[pl.DataFrame]:
        if self._whole is not None:
            yield from self._whole.iter_slices(self.batch_rows)
            return
        table = pl.scan_parquet(self.file.absolute(), glob=False, hive_partitioning=False)
        try:
            with no_panic():
                rows = int(table.select(pl.len()).collect().item())
            for first in range(0, rows, self.batch_rows):
                with no_panic():
                    part = table.slice(first, self.batch_rows).collect()
                yield as_layout(part, self.schema, self.source, first)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise DataError(f"{self.source}: damaged Parquet file: {str(error).splitlines()[0]}") from error

    def _csv(self, *, check: bool) -> Iterator[pl.DataFrame]:
        types = column_types(self.schema)
        layout = {name: types.get(name, pl.String()) for name in self.columns}
        wanted = [name for name in self.columns if name in types]
        first_row = 0
        for block in _ahead(self._blocks()):
            check_end(block[-2:], self.source)
            try:
                raw = read_text(block, layout, wanted, header=False).select(wanted)
            except (pl.exceptions.PolarsError, ValueError) as error:
                raise self._explained(block, first_row, error) from error
            if check:
                check_empty_cells(raw, self.schema, self.source, first_row)
            first_row += raw.height
            yield raw

    def _blocks(self) -> Iterator[bytes]:
        """Yield the text below the header in pieces that end at the end of a line."""
        try:
            with gzip.open(self.file, "rb") if self._zipped else self.file.open("rb") as stream:
                if self.schema.header:
                    stream.readline()
                rest = b""
                while chunk := stream.read(self.block_bytes):
                    lines, newline, tail = chunk.rpartition(b"\n")
                    if not newline:
                        rest += chunk
                        if len(rest) > _LONGEST_LINE:
                            raise DataError(
                                f"{self.source}: a line of more than {_LONGEST_LINE >> 20} MiB: no event file"
                            )
                        continue
                    block, rest = rest + lines + newline, tail
                    if block.strip():
                        yield block
                if rest.strip():
                    yield rest
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{self.source}: damaged or incomplete file: {gzip_fault(error)}") from error

    def _explained(self, block: bytes, first_row: int, error: Exception) -> DataError:
        """Say which cell of a block made the parser stop."""
        types = column_types(self.schema)
        for number, line in enumerate(block.splitlines()):
            cells = line.decode("utf-8", errors="replace").split(",")
            at = where(first_row + number, lines=True)
            if has_open_quote(line):
                return DataError(f"{self.source}: {at}: unclosed quote")
            if len(cells) > len(self.columns):
                return DataError(f"{self.source}: {at}: more values than the {len(self.columns)} columns of the header")
            for name, cell in zip(self.columns, cells, strict=False):
                if types.get(name, pl.String()) == pl.String():
                    continue
                if unreadable(pl.Series([cell.strip('"')]), types[name]).any():
                    wanted = "a whole number" if types[name] == pl.Int64() else "a number"
                    return DataError(f"{self.source}: {at}, column {name}: {cell[:40]!r} is not {wanted}")
        return DataError(f"{self.source}: cannot be parsed as CSV: {str(error).splitlines()[0]}")


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
