"""Event files in parts: the same strict reading as `load_events`, for files larger than memory."""

from __future__ import annotations

import gzip
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from higgsbench.errors import DataError
from higgsbench.events.check import check_columns, check_content, column_types, where
from higgsbench.events.columnar import as_layout
from higgsbench.events.opening import check_name, first_look
from higgsbench.events.read import (
    check_empty_cells,
    check_end,
    has_open_quote,
    normalised,
    read_header,
    read_text,
    unreadable,
)
from higgsbench.events.root import parse_root
from higgsbench.events.unpacked import gzip_fault
from higgsbench.files import printable
from higgsbench.panics import no_panic
from higgsbench.schema import ATLAS_HIGGS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from higgsbench.schema import TableSchema

__all__ = ["EventStream"]

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
