"""What an event file must be."""

from __future__ import annotations

import gzip
import math
import re
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from higgsbench.errors import DataError, nearest_hint
from higgsbench.files import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from higgsbench.schema import TableSchema

__all__ = [
    "MOST_TIMES",
    "check_columns",
    "check_content",
    "check_distinct",
    "check_gzip_end",
    "check_gzip_size",
    "check_name",
    "check_table_size",
    "check_zero_tail",
    "column_types",
    "first_look",
    "gzip_fault",
]


_LARGEST = 1e30
"""Beyond this squares overflow in single precision; no momentum, mass or weight comes near."""

_TOO_LARGE = "larger than any measured value or weight can be (1e+30)"


def column_types(schema: TableSchema) -> dict[str, pl.DataType]:
    """Return the type of every column a file of this layout may have, in file order."""
    types: dict[str, pl.DataType] = {}
    if schema.event_id:
        types[schema.event_id] = pl.Int64()
    for name in schema.features:
        types[name] = pl.Int64() if name in schema.integers else pl.Float64()
    if schema.group and schema.group not in types:
        types[schema.group] = pl.Int64()
    if schema.weight:
        types[schema.weight] = pl.Float64()
    types[schema.label] = pl.String()
    if schema.subset:
        types[schema.subset] = pl.String()
    if schema.subset_weight:
        types[schema.subset_weight] = pl.Float64()
    return types


def check_columns(header: Sequence[str], schema: TableSchema, source: str) -> None:
    """Check a header: every needed column once, no unknown column.

    Raises:
        DataError: naming the file and the column at fault.
    """
    known = list(column_types(schema))
    seen: set[str] = set()
    for name in header:
        if name in seen:
            raise DataError(f"{source}: column {name} appears twice in the header")
        seen.add(name)
        if name not in known and not schema.ignore_unknown:
            hint = nearest_hint(name, [k for k in known if k not in header])
            raise DataError(f"{source}: unknown column {name[:60]!r}{hint}; the layout is {schema.name}")
    needed = [*schema.features, *([schema.event_id] if schema.event_id else [])]
    if schema.group and schema.group not in needed:
        needed.append(schema.group)
    missing = [name for name in needed if name not in seen]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise DataError(
            f"{source}: missing column {', '.join(missing[:3])}{more}; the layout {schema.name} needs "
            f"{len(needed)} columns"
        )
    if schema.weight:
        for have, lack in ((schema.label, schema.weight), (schema.weight, schema.label)):
            if have in seen and lack not in seen:
                raise DataError(f"{source}: column {have} without column {lack}; give both, or neither for test events")


def _rules(frame: pl.DataFrame, schema: TableSchema) -> Iterator[tuple[str, pl.Expr, str]]:
    """Yield (column, expression that is true for a bad value, what is wrong)."""
    types = column_types(schema)
    for name in frame.columns:
        column = pl.col(name)
        if types[name] == pl.Float64():
            yield name, ~(column.abs() <= _LARGEST), _TOO_LARGE  # NaN is above every number here
        if name not in schema.features or name in schema.integers:
            yield name, column.is_null(), "empty"
        if name in (schema.weight, schema.subset_weight) and not schema.negative_weights:
            yield name, column <= 0.0, "not a positive weight"
        if name == schema.label:
            if schema.background is not None:
                allowed = [schema.signal, schema.background]
                yield name, ~column.is_in(allowed), f"not one of the labels {schema.signal!r} and {schema.background!r}"
        elif name == schema.subset and schema.subset_values:
            yield name, ~column.is_in(list(schema.subset_values)), f"not one of {', '.join(schema.subset_values)}"
        elif name == schema.group:
            yield name, column < 0, "not a group number (it must be 0 or more)"


def where(row: int, *, lines: bool) -> str:
    """Name a data row (0-based) for people: rows count from 1 without the header, lines as an editor does."""
    return f"row {row + 1} (line {row + 2})" if lines else f"row {row + 1}"


def check_content(frame: pl.DataFrame, schema: TableSchema, source: str, *, lines: bool, first_row: int = 0) -> None:
    """Check the values of a parsed table; nulls in measured features mean missing and are fine.

    Args:
        frame: parsed table with the sentinel already replaced by null.
        schema: the layout.
        source: file name for messages.
        lines: whether row numbers have line numbers beside them (text files).
        first_row: position of the table's first row in the file, where the table is one part of it.

    Raises:
        DataError: naming file, row and column of the first offending value.
    """
    if frame.height == 0:
        raise DataError(f"{source}: no events: the file has a header and nothing below it")
    rules = list(_rules(frame, schema))
    counts = frame.select([bad.any().alias(str(i)) for i, (_, bad, _) in enumerate(rules)]).row(0)
    for broken, (name, bad, what) in zip(counts, rules, strict=True):
        if broken:
            row = frame.select(bad.fill_null(False).arg_max()).item()
            value = frame[name][row]
            if what == _TOO_LARGE and not math.isfinite(value):
                what = "not a finite number"
            shown = "" if value is None else f", it is {value!r}"
            raise DataError(f"{source}: {where(first_row + row, lines=lines)}, column {name}: {what}{shown}")
    if schema.event_id is not None:
        check_distinct(frame[schema.event_id], schema, source, lines=lines, first_row=first_row)


def check_distinct(ids: pl.Series, schema: TableSchema, source: str, *, lines: bool, first_row: int = 0) -> None:
    """Check that no event number stands twice; arguments as in `check_content`.

    Raises:
        DataError: naming file, row and column of the first number that stood before.
    """
    if ids.n_unique() != len(ids):
        row = int((~ids.is_first_distinct()).arg_max() or 0)
        first = int((ids == ids[row]).arg_max() or 0)
        raise DataError(
            f"{source}: {where(first_row + row, lines=lines)}, column {schema.event_id}: {ids[row]} already stands "
            f"in {where(first_row + first, lines=lines)}; event numbers must be unique"
        )


MOST_TIMES = 100
"""Events as text shrink to about a third, repeated columns to a tenth; a file of zeros to a thousandth."""

_HARMLESS = 1 << 28
_COUNTED = 1 << 24
_CHUNK = 1 << 20


def check_gzip_size(file: Path) -> None:
    """Refuse a gzip file that unpacks to more than 100 times its size and 256 MiB.

    Small files are unpacked piece by piece to find out; of large ones, the size that they state of themselves is looked
    at, for unpacking them twice would cost seconds.

    Raises:
        DataError: naming the file.
    """
    try:
        size = file.stat().st_size
        most = max(_HARMLESS, MOST_TIMES * size)
        unpacked = _stated_size(file) if size > _COUNTED else _counted_size(file, most)
    except (OSError, EOFError, zlib.error):
        return  # the parser says what is wrong with it
    if unpacked > most:
        raise DataError(
            f"{file}: unpacks to more than {MOST_TIMES} times its size: no event file, or one made to fill the memory"
        )


def check_gzip_end(file: Path) -> None:
    """Refuse a file that goes on with other bytes behind its gzip data; for files that a parser has refused.

    Raises:
        DataError: naming the file.
    """
    try:
        with file.open("rb") as probe:
            if probe.read(2) != b"\x1f\x8b":
                return
        with gzip.open(file, "rb") as stream:
            while stream.read(_CHUNK):
                pass
    except gzip.BadGzipFile as error:
        raise DataError(f"{file}: damaged gzip file: {gzip_fault(error)}") from error
    except (OSError, EOFError, zlib.error):
        return


def gzip_fault(error: Exception) -> str:
    """Say what is wrong with a file that begins as gzip."""
    if isinstance(error, gzip.BadGzipFile) and "Not a gzipped file" in str(error):
        return "other bytes follow the compressed data; remove them or get the file anew"
    return str(error)


def check_table_size(file: Path, rows: int, columns: int) -> None:
    """Refuse a columnar file that states far more values than its size can hold.

    Raises:
        DataError: naming the file.
    """
    unpacked = 8 * rows * columns
    if unpacked > max(_HARMLESS, 10 * MOST_TIMES * file.stat().st_size):
        raise DataError(f"{file}: {rows:,} rows in {file.stat().st_size:,} bytes: made to fill the memory")


def _stated_size(file: Path) -> int:
    with file.open("rb") as stream:
        stream.seek(-4, 2)
        return int.from_bytes(stream.read(4), "little")


def _counted_size(file: Path, most: int) -> int:
    count = 0
    with gzip.open(file, "rb") as stream:
        while count <= most and (chunk := stream.read(_CHUNK)):
            count += len(chunk)
    return count


_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/{1,2}(.+)")
"""A web address, also one that lost a slash when it became a path; drives of Windows have one letter."""

_ZIP = b"PK\x03\x04"


def check_name(path: object) -> None:
    """Refuse an empty name, which would mean the current folder.

    Raises:
        DataError: if it is empty.
    """
    if path == "":
        raise DataError("the file name is empty")


def first_look(file: Path, *, header: bool) -> bytes:
    """Refuse what is no file, cannot be opened, or is another kind of file; cheap whatever the file's size.

    Args:
        file: its path.
        header: whether the first line of a text holds column names.

    Returns:
        The first five bytes.

    Raises:
        DataError: naming the file and what is wrong with it.
    """
    name = printable(file)
    _must_be_file(file, name)
    try:
        with file.open("rb") as stream:
            magic = stream.read(5)
        if magic == b"":
            raise DataError(f"{name}: the file is empty")
        if magic[:4] == _ZIP:
            raise DataError(f"{name}: a zip archive; unpack it first")
        if magic[:1].isascii() and magic != b"root\x00" and magic[:4] != b"PAR1" and magic[:2] != b"\x1f\x8b":
            check_zero_tail(file, header=header)
    except OSError as error:
        raise DataError(f"{name}: cannot be read: {error.strerror}") from error
    return magic


def _must_be_file(file: Path, name: str) -> None:
    try:
        there, is_link = file.exists(), file.is_symlink()
    except OSError as error:
        raise DataError(f"{name}: cannot be read: {error.strerror}") from error
    if not there:
        address = _ADDRESS.fullmatch(name)
        if address is not None:
            raise DataError(
                f"{address[1]}://{address[2]}: an address, not a file; download it first "
                "(`higgsbench data fetch` brings the official file)"
            )
        raise DataError(f"{name}: {'a link that leads nowhere' if is_link else 'no such file'}")
    if file.is_dir():
        raise DataError(f"{name}: a folder, not an event file")
    if not file.is_file():
        raise DataError(f"{name}: a device or pipe, not an event file")


def check_zero_tail(file: Path, *, header: bool) -> None:
    """Refuse a text file that ends with NUL bytes, as one does whose writing was cut off: parsers read on through them.

    A header that holds NUL bytes is left to those who read it.

    Raises:
        DataError: naming the file and the row.
        OSError: if it cannot be read.
    """
    row = 0
    with file.open("rb") as stream:
        stream.seek(-1, 2)
        if stream.read(1) != b"\x00":
            return
        stream.seek(0)
        while chunk := stream.read(_CHUNK):
            at = chunk.find(b"\x00")
            row += chunk.count(b"\n", 0, at if at >= 0 else len(chunk))
            if at >= 0:
                break
    if row or not header:
        place = where(row - header, lines=header)
        raise DataError(f"{printable(file)}: {place}: NUL bytes, up to the end of the file: its writing was cut off")
