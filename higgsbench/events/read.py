"""Strict reading of event files: CSV, gzipped CSV, Parquet and ROOT, checked and cached."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from higgsbench.errors import DataError
from higgsbench.events.cache import cached_frame
from higgsbench.events.check import check_columns, check_content, column_types, where
from higgsbench.events.columnar import parse_parquet
from higgsbench.events.opening import check_name, first_look
from higgsbench.events.root import parse_root
from higgsbench.events.table import Events
from higgsbench.events.unpacked import check_gzip_end, check_gzip_size, gzip_fault
from higgsbench.files import printable
from higgsbench.panics import no_panic
from higgsbench.schema import ATLAS_HIGGS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from higgsbench.schema import TableSchema

__all__ = ["load_events", "normalised", "parse_file", "read_header", "read_table", "read_text", "unreadable"]

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
