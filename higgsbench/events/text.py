"""Event files as text: CSV, plain or gzipped, parsed block by block."""

from __future__ import annotations

import csv
import io
import math
import re
import zlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import polars as pl
from isal import igzip, igzip_lib

from higgsbench.errors import DataError
from higgsbench.events.check import HARMLESS, MOST_TIMES, Place
from higgsbench.files import no_panic
from higgsbench.schema import ATLAS_HIGGS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from numpy.typing import NDArray

    from higgsbench.events.formats import ColumnKinds, Part
    from higgsbench.expressions import Leaf
    from higgsbench.schema import TableSchema

_HEADER_LIMIT = 1 << 16
_LONGEST_ROW = 1 << 25
_AHEAD = 3  # blocks parsed at a time, ahead of the consumer
_PROBED = 1000  # rows that are checked to find columns of numbers
EXACT = 2.0**53  # whole numbers below this are exact in double precision
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
_DECIMAL_COMMA = re.compile(r"\s*[+-]?\d+,\d+\s*")
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_ISAL_ERROR: Any = igzip_lib.IsalError
_DAMAGE: tuple[type[Exception], ...] = (OSError, EOFError, zlib.error, _ISAL_ERROR)


def text_chunks(file: Path, source: str, *, zipped: bool, size: int) -> Iterator[bytes]:
    """Yield the bytes of a text file in chunks of `size`; refuse one that is damaged or unpacks to far too much."""
    opened: Any = igzip.open if zipped else open  # igzip: three times as fast as the gzip of Python
    total = 0
    try:
        limit = max(HARMLESS, MOST_TIMES * file.stat().st_size) if zipped else math.inf
        with opened(file, "rb") as stream:
            while chunk := stream.read(size):
                total += len(chunk)
                if total > limit:
                    raise DataError(
                        f"{source}: unpacks to more than {MOST_TIMES} times its size: not an event file, or one that "
                        "would exhaust the memory"
                    )
                yield chunk
    except _DAMAGE as error:
        other = "other bytes follow the compressed data; remove them or get the file again"
        reason = other if "Not a gzipped file" in str(error) else str(error)
        raise DataError(f"{source}: damaged or incomplete file: {reason}") from error


def _first_line(file: Path, source: str, *, zipped: bool, header: bool) -> str:
    """Return the first line of a text file."""
    start = next(text_chunks(file, source, zipped=zipped, size=_HEADER_LIMIT), b"")
    line, newline, _ = start.partition(b"\n")
    text = line.decode("utf-8-sig", errors="replace")
    if zipped and line.startswith((b"PK\x03\x04", b"\x1f\x8b")):
        raise DataError(f"{source}: compressed twice; unpack it once")
    if header and _REPLACEMENT in text:
        raise DataError(f"{source}: line 1 is not UTF-8 text: not an event file, or in another encoding")
    if header and ("\x00" in text or (len(start) == _HEADER_LIMIT and not newline)):
        raise DataError(f"{source}: line 1 is not a header of column names")
    return text


def header_names(file: Path, source: str, *, zipped: bool) -> tuple[str, ...]:
    """Return the cells of the first line of a text file, which must be separated by commas."""
    return _column_names(_first_line(file, source, zipped=zipped, header=True), source, ATLAS_HIGGS, header=True)


def _column_names(line: str, source: str, schema: TableSchema, *, header: bool) -> tuple[str, ...]:
    """Return the names of the columns; those of the layout if the line is not a header."""
    other_kind = bool(set("{}<>") & set(line))  # JSON and web pages are not event files at all
    for sign, name in _SEPARATORS.items():
        count = line.count(sign)
        found = count > line.count(",") if header else count >= max(1, len(schema.columns) - 1)
        if found and not other_kind:
            raise DataError(
                f"{source}: the columns are separated by {name}; separate them by commas and write decimal points "
                f"(pandas: read_csv(..., sep={sign!r}) and to_csv(..., index=False))"
            )
    if not header:
        return schema.columns
    if not line.strip():
        raise DataError(f"{source}: line 1 is empty, expected the column names")
    names = _cells(line)
    spaced = [name.strip() for name in names if name != name.strip()]
    if spaced and not other_kind:
        more = f" and {len(spaced) - 1} more" if len(spaced) > 1 else ""
        raise DataError(
            f"{source}: line 1: there are spaces around the column name {spaced[0][:60]!r}{more}; write names and "
            "values without spaces beside the commas"
        )
    return tuple(name.strip() for name in names)


def _cells(line: str) -> list[str]:
    try:
        return next(csv.reader(io.StringIO(line)), [])
    except csv.Error:  # a cell longer than the module's limit
        return line.split(",")


class TextFile:
    """A CSV file, read in blocks of whole rows.

    Attributes:
        columns: the names of its columns, in file order.
        first_line: number of the line of the first event.
    """

    def __init__(self, file: Path, source: str, schema: TableSchema, *, zipped: bool, block_bytes: int) -> None:
        """Read the first line, which must be separated by commas, and a header unless the layout allows none."""
        self._file, self._source, self._schema = file, source, schema
        self._zipped, self._block_bytes = zipped, block_bytes
        line = _first_line(file, source, zipped=zipped, header=schema.header)
        self._header = schema.header or not {*schema.features}.isdisjoint(_cells(line))
        self.columns = _column_names(line, source, schema, header=self._header)
        self.first_line = 1 + self._header

    def head(self, rows: int) -> pl.DataFrame:
        """Return the first rows of all columns, with the types that they look like."""
        with no_panic():
            return pl.read_csv(self._file, n_rows=rows, infer_schema_length=rows)

    def numbers(self) -> tuple[str, ...]:
        """Return the columns that hold numbers in the first rows."""
        rows = b"".join(next(filter(None, self._blocks()), b"").splitlines(keepends=True)[:_PROBED])
        if not rows:
            return ()
        with no_panic():
            table = pl.read_csv(rows, has_header=False, encoding="utf8-lossy", infer_schema_length=None)
        return tuple(name for name, column in zip(self.columns, table, strict=False) if column.dtype.is_numeric())

    def parts(
        self, read: ColumnKinds, finish: Callable[[pl.DataFrame, Place], Part], vectors: Sequence[Leaf] = ()
    ) -> Iterator[Part]:
        """Read the file from its start; the next blocks are parsed and finished while the consumer uses one.

        Args:
            read: columns to read, with their types; None for any number, whole numbers as such.
            finish: called in a thread with each table of these columns, empty cells as null, and its place.
            vectors: what is wanted of columns of vectors, of which a text file has none.

        Yields:
            What `finish` returns.

        Raises:
            DataError: naming the file, the row and the column of what cannot be parsed.
        """
        for leaf in vectors:
            raise DataError(f"{self._source}: {leaf.name}: a text file has one number per column, not vectors")
        # Columns are parsed by position, under a header of their numbers: names that are not read may repeat.
        types = {str(self.columns.index(name)): kind for name, kind in read.items()}
        row, line = 0, self.first_line

        def parsed(block: bytes, place: Place) -> Part:
            return finish(self._part(block, place, types), place)

        parsing: deque[Future[Part]] = deque()
        with ThreadPoolExecutor(_AHEAD) as threads:
            for block in filter(None, self._blocks()):
                newlines = int(np.count_nonzero(np.frombuffer(block, dtype=np.uint8) == ord("\n")))
                rows, below = newlines + (block[-1:] != b"\n"), None
                if b'"' in block:
                    starts = _row_bounds(block)[:-1]
                    lines = np.flatnonzero(np.frombuffer(block, dtype=np.uint8) == ord("\n"))
                    rows, below = starts.size, np.searchsorted(lines, starts)
                place = Place(self._source, row, line, below)
                parsing.append(threads.submit(parsed, block, place))
                row, line = row + rows, line + newlines
                if len(parsing) > _AHEAD:
                    yield parsing.popleft().result()
            while parsing:
                yield parsing.popleft().result()

    def _blocks(self) -> Iterator[bytes]:
        """Yield the text below the header in blocks of whole rows; the last one may hold an unclosed quote."""
        rest, header = b"", self._header
        for chunk in text_chunks(self._file, self._source, zipped=self._zipped, size=self._block_bytes):
            if header:
                _, newline, chunk = chunk.partition(b"\n")
                header = not newline
            if b'"' in rest or b'"' in chunk:  # a newline in a quoted cell ends no row
                rest, chunk = b"", rest + chunk
                end = int(np.append(-1, _positions(chunk, b"\n"))[-1]) + 1
            else:
                end = chunk.rfind(b"\n") + 1
            yield b"".join((rest, memoryview(chunk)[:end])) if end else b""  # the only copy of nearly all text
            rest = chunk[end:] if end else rest + chunk
            if len(rest) > _LONGEST_ROW:
                break
        yield rest

    def _part(self, block: bytes, place: Place, types: dict[str, pl.DataType | None]) -> pl.DataFrame:
        """Parse some columns of a block, given by their positions."""
        if b'"' in block and block.count(b'"') % 2:
            cut = "" if b"\n" in block.rstrip() else "; the file may be cut off"
            raise place.fault(0, f": a quote is opened and never closed{cut}")
        if len(block) > _LONGEST_ROW and b"\n" not in block[:-1]:
            raise place.fault(0, f": a line of more than {_LONGEST_ROW >> 20} MiB: not an event file")
        try:
            raw = self._parsed(block, types)
        except (pl.exceptions.PolarsError, ValueError) as error:
            self._explain(block, place, types, error)
        if len(types) < len(self.columns):  # where all columns are read, Polars refuses long rows itself
            long = np.diff(np.searchsorted(_positions(block, b","), _row_bounds(block))) >= len(self.columns)
            if long.any():
                raise place.fault(int(np.argmax(long)), self._too_long())
        table = raw.rename({position: self.columns[int(position)] for position in types})
        for column, kind in zip(table, types.values(), strict=True):
            self._check_cells(column, block, place, measured=kind is None or column.name in self._schema.features)
        return table

    def _parsed(self, block: bytes, types: dict[str, pl.DataType | None]) -> pl.DataFrame:
        """Parse some columns; a whole number may be written with a point, as 2.0."""
        layout = {str(i): types.get(str(i)) or pl.String() for i in range(len(self.columns))}
        text, read = (",".join(layout) + "\n").encode() + block, list(types)
        chosen = read if len(read) < len(layout) else None

        def parsed(layout: dict[str, pl.DataType]) -> pl.DataFrame:
            with no_panic():
                raw = pl.read_csv(text, schema=layout, columns=chosen, encoding="utf8-lossy").select(read)
                return raw.with_columns(_any_number(raw[name]) for name in read if types[name] is None)

        try:
            return parsed(layout)
        except pl.exceptions.PolarsError:
            whole = [name for name in read if types[name] == pl.Int64()]
            if not whole:
                raise
            raw = parsed(layout | dict.fromkeys(whole, pl.String()))
            return raw.with_columns(_whole_number(raw[name]) for name in whole)

    def _too_long(self) -> str:
        of = "" if self._header else f" of the layout {self._schema.name}; choose the file's own layout, or"
        return (
            f": more values than the {len(self.columns)} columns{of or ';'} write decimal points, not commas, and "
            "quote text that holds commas"
        )

    def _check_cells(self, column: pl.Series, block: bytes, place: Place, *, measured: bool) -> None:
        """Refuse empty lines, empty cells unless the layout reads them as missing, and text in another encoding."""
        schema, name = self._schema, column.name
        if column.dtype == pl.String():
            foreign = column.str.contains(_REPLACEMENT, literal=True)
            if foreign.any():
                raise place.fault(int(foreign.arg_max() or 0), f", column {name}: not UTF-8 text")
        if not column.null_count():
            return
        row = int(column.is_null().arg_max() or 0)
        bounds = _row_bounds(block)
        if not block[bounds[row] : bounds[row + 1]].strip():
            raise place.fault(row, ": an empty line; remove it")
        if not (schema.empty_is_missing and measured) and name not in schema.categories:
            known = schema.missing is not None and measured and name not in schema.integers
            hint = f"; a value that could not be measured is written {schema.missing}" if known else ""
            raise place.fault(row, f", column {name}: empty{hint}")

    def _explain(self, block: bytes, place: Place, types: dict[str, pl.DataType | None], error: Exception) -> NoReturn:
        """Find the first row that cannot be parsed by halving the block, and say what is wrong with it."""
        bounds = _row_bounds(block)
        low, high = 0, bounds.size - 1
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._fails(block[bounds[low] : bounds[middle]], types) else (middle, high)
        text = block[bounds[low] : bounds[high]]
        if b"\n" in text[:-1]:
            raise place.fault(low, ": a quote is opened and not closed in its line") from error
        cells = _cells(text.decode("utf-8", errors="replace"))
        if len(cells) > len(self.columns):
            raise place.fault(low, self._too_long()) from error
        for position, kind in types.items():
            number = int(position)
            if number < len(cells) and self._fails(text, {position: kind}):
                what = f", column {self.columns[number]}: {_not_a_number(cells[number], kind)}"
                raise place.fault(low, what) from error
        raise place.fault(low, f": cannot be parsed as CSV: {str(error).splitlines()[0]}") from error

    def _fails(self, rows: bytes, types: dict[str, pl.DataType | None]) -> bool:
        try:
            self._parsed(rows, types)
        except (pl.exceptions.PolarsError, ValueError):
            return True
        return False


def _positions(text: bytes, sign: bytes) -> NDArray[np.int64]:
    """Return where a sign is outside quoted cells."""
    letters = np.frombuffer(text, dtype=np.uint8)
    found = np.flatnonzero(letters == sign[0])
    if b'"' in text:
        found = found[np.searchsorted(np.flatnonzero(letters == ord('"')), found) % 2 == 0]
    return found


def _row_bounds(block: bytes) -> NDArray[np.int64]:
    """Return where rows start, and the end of the block."""
    starts = np.append(0, _positions(block, b"\n") + 1)
    return starts if starts[-1] == len(block) else np.append(starts, len(block))


def _whole_number(cells: pl.Series) -> pl.Series:
    """Read whole numbers that may be written as 2.0."""
    text = cells.str.strip_chars_start()
    number = text.cast(pl.Float64, strict=False)
    whole = pl.select(pl.when((number == number.round(0)) & (number.abs() < EXACT)).then(number)).to_series()
    found = text.cast(pl.Int64, strict=False)
    found = found.zip_with(found.is_not_null(), whole.cast(pl.Int64))
    if found.null_count() > cells.null_count():
        raise pl.exceptions.ComputeError("a cell does not hold a whole number")
    return found.alias(cells.name)


def _any_number(cells: pl.Series) -> pl.Series:
    """Read whole numbers if all cells hold them, otherwise floating-point numbers."""
    text = cells.str.strip_chars_start()
    for kind in (pl.Int64, pl.UInt64):
        found = text.cast(kind, strict=False)
        if found.null_count() == cells.null_count():
            return found
    return text.cast(pl.Float64)


def _not_a_number(cell: str, kind: pl.DataType | None) -> str:
    whole, advice = kind == pl.Int64(), ""
    if _DECIMAL_COMMA.fullmatch(cell):
        advice = "; write decimal points, not commas"
    elif whole and cell.strip().isdigit():
        advice = f" of at most {2**63 - 1}; renumber the events"
    return f"{cell[:40]!r} is not {'a whole number' if whole else 'a number'}{advice}"
