"""Event tables written to every format: CSV, gzipped CSV, Parquet and ROOT."""

from __future__ import annotations

import gzip
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from polars.io.plugins import register_io_source

from higgsbench.errors import DataError
from higgsbench.events.check import column_types
from higgsbench.events.formats import TREE, uproot_module
from higgsbench.files import atomic_path, check_folder_of, told_plainly
from higgsbench.schema import ATLAS_HIGGS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from higgsbench.schema import TableSchema

_ROWS = 1 << 16  # written at a time


def _write_text(batches: Iterator[pl.DataFrame], target: Path) -> None:
    with target.open("wb") as stream:
        for number, batch in enumerate(batches):
            batch.write_csv(stream, include_header=number == 0)


def _write_gzip(batches: Iterator[pl.DataFrame], target: Path) -> None:
    # No name and no time in the gzip header: equal events make equal files.
    with target.open("wb") as raw, gzip.GzipFile("", "wb", 4, raw, mtime=0) as stream:
        for number, batch in enumerate(batches):
            stream.write(batch.write_csv(include_header=number == 0).encode())


def _write_parquet(batches: Iterator[pl.DataFrame], target: Path) -> None:
    first = next(batches)

    def source(
        with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        yield from chain([first], batches)  # a sink of everything: there is nothing to push down

    register_io_source(source, schema=first.schema).sink_parquet(target, maintain_order=True)


_OF_ROOT = {pl.Boolean(): np.dtype(np.bool_), pl.Float64(): np.dtype(np.float64), pl.Float32(): np.dtype(np.float64)}


def _write_root(batches: Iterator[pl.DataFrame], target: Path) -> None:
    """Write tables without nulls as TTree `events`, text columns as text branches."""
    uproot = uproot_module()
    import awkward

    first = next(batches)
    text = awkward.Array(["s"]).type.content
    kinds = {
        name: text if kind == pl.String() else _OF_ROOT.get(kind, np.dtype(np.int64))
        for name, kind in first.schema.items()
    }
    with uproot.recreate(str(target)) as content:
        tree = content.mktree(TREE, kinds, title="higgsbench events")
        for batch in chain([first], batches):
            tree.extend({column.name: _branch(column, awkward) for column in batch.iter_columns()})


def _branch(column: pl.Series, awkward: Any) -> Any:
    if column.dtype != pl.String():
        return column.to_numpy()
    # The array is put together from its parts: awkward's own way from Python strings is ten times slower.
    letters = np.frombuffer("".join(column.to_list()).encode(), dtype=np.uint8)
    offsets = np.concatenate([[0], np.cumsum(column.str.len_bytes().to_numpy(), dtype=np.int64)])
    characters = awkward.contents.NumpyArray(letters, parameters={"__array__": "char"})
    index = awkward.index.Index64(offsets)
    return awkward.Array(awkward.contents.ListOffsetArray(index, characters, parameters={"__array__": "string"}))


FORMATS: dict[str, Callable[[Iterator[pl.DataFrame], Path], None]] = {
    ".csv.gz": _write_gzip,
    ".csv": _write_text,
    ".parquet": _write_parquet,
    ".root": _write_root,
}
"""Ending of the file name and the function that writes a table to it, given in parts of which there is at least one.

In text, Polars writes the shortest decimal that reads back as the same number, as the official files do.
"""


def output_format(target: Path) -> str:
    """Return the extension in `FORMATS` that chooses the format of a file; refuse other names, and a missing folder."""
    for ending in FORMATS:
        if target.name.lower().endswith(ending) and len(target.name) > len(ending):
            check_folder_of(target, DataError)
            return ending
    raise DataError(f"{target}: unknown kind of output; the name must end in one of {', '.join(FORMATS)}")


def write_events(frame: pl.DataFrame, target: str | Path, schema: TableSchema = ATLAS_HIGGS) -> Path:
    """Write events atomically, columns in the order of the layout, missing values as its sentinel.

    Args:
        frame: events, missing values null.
        target: file to write; its extension chooses the format.
        schema: the layout.

    Raises:
        DataError: if the extension is unknown, the file cannot be written, or ROOT would have to hold empty cells.
        MissingExtraError: for ROOT without uproot.
    """
    path = Path(target).expanduser()
    ending = output_format(path)
    table = frame.select(name for name in column_types(schema) if name in frame.columns)
    if schema.missing is not None:
        measured = [name for name in schema.numeric if name not in schema.integers]
        table = table.with_columns(pl.col(measured).fill_null(schema.missing))
    table = table.with_columns(pl.col(list(schema.categories)).fill_null(""))
    gaps = [column.name for column in table if column.null_count()] if ending == ".root" else []
    if gaps:
        raise DataError(
            f"{path}: column {gaps[0]} has missing values, which ROOT cannot leave empty; write Parquet, or name a "
            "number for them as `missing` of the layout"
        )
    with told_plainly(DataError, path), atomic_path(path) as temporary:
        FORMATS[ending](table.iter_slices(_ROWS) if table.height else iter([table]), temporary)
    return path
