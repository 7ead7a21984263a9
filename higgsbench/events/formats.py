"""Parquet and ROOT files as parts of a table, and event tables written to every format."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from higgsbench.errors import DataError, MissingExtraError
from higgsbench.events.check import check_columns, check_table_size, column_types, where
from higgsbench.files import atomic_path, no_panic
from higgsbench.schema import ATLAS_HIGGS

if TYPE_CHECKING:
    from collections.abc import Callable

    from higgsbench.schema import TableSchema

__all__ = ["FORMATS", "TREE", "as_layout", "output_format", "parse_parquet", "parse_root", "write_events", "write_root"]


def parse_parquet(file: Path, schema: TableSchema) -> pl.DataFrame:
    """Parse a Parquet file.

    Raises:
        DataError: if the file is damaged, a column is not of the layout or a value not of its column's type.
    """
    try:
        with no_panic():
            names = list(pl.read_parquet_schema(file))
            check_columns(names, schema, str(file))
            table = pl.scan_parquet(file.absolute(), glob=False, hive_partitioning=False)
            check_table_size(file, int(table.select(pl.len()).collect().item()), len(names))
            raw = pl.read_parquet(file.absolute(), glob=False, hive_partitioning=False)
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        raise DataError(f"{file}: damaged or not a Parquet file: {str(error).splitlines()[0]}") from error
    return as_layout(raw, schema, file)


def as_layout(raw: pl.DataFrame, schema: TableSchema, file: Path | str, first_row: int = 0) -> pl.DataFrame:
    """Convert every column to the type of the layout where no value is lost by it.

    Args:
        raw: table or part of one, as stored.
        schema: the layout.
        file: name for messages.
        first_row: position of the table's first row in the file, where the table is one part of it.

    Raises:
        DataError: naming the column, and the row where one value is at fault.
    """
    types = column_types(schema)
    converted = []
    for name, column in zip(raw.columns, raw.iter_columns(), strict=True):
        if name not in types:
            continue
        wanted = types[name]
        numeric = column.dtype.is_numeric()
        # A label written as a number is compared in its text form.
        if numeric == (wanted == pl.String()) and not (numeric and name == schema.label):
            raise DataError(f"{file}: column {name} has type {column.dtype}, expected {wanted}")
        cast = column.cast(wanted, strict=False)
        lost = cast.is_null() & column.is_not_null()
        if wanted == pl.Int64() and column.dtype.is_float():
            lost = lost | (cast.cast(pl.Float64) != column).fill_null(False)
        if lost.any():
            row = int(lost.arg_max() or 0)
            at = where(first_row + row, lines=False)
            raise DataError(f"{file}: {at}, column {name}: {column[row]!r} is not a whole number")
        converted.append(cast)
    return pl.DataFrame(converted)


TREE = "events"
"""Name of the tree that is written, and preferred where a file holds several."""

_BLOCK = 1 << 17


def _uproot() -> Any:
    try:
        import awkward  # noqa: F401  (uproot writes and reads text branches through it)
        import uproot
    except ImportError as error:
        raise MissingExtraError("reading and writing ROOT files", "root") from error
    return uproot


def parse_root(file: Path, schema: TableSchema) -> pl.DataFrame:
    """Parse the event tree of a ROOT file.

    Text columns may be text branches or one character per event (`Char_t`).

    Raises:
        DataError: if the file is damaged, holds no tree of the layout or a value not of its column's type.
        MissingExtraError: if uproot is not installed.
    """
    uproot = _uproot()
    try:
        # The mapping keeps a colon in the path from being read as a path inside the file.
        with uproot.open({str(file): None}) as content:
            tree = _event_tree(content, schema, file)
            names = list(tree.keys())
            check_columns(names, schema, str(file))
            raw = pl.DataFrame([_series(name, tree[name].array(library="np"), file) for name in names])
    except DataError:
        raise
    except Exception as error:  # uproot lets the errors of struct, zlib, lz4 and its own interpreter through
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(f"{file}: damaged or not a ROOT file of event columns: {reason}") from error
    text = [name for name, kind in column_types(schema).items() if kind == pl.String() and name in raw.columns]
    return as_layout(raw.with_columns(_characters(raw[name]) for name in text), schema, file)


def _event_tree(content: Any, schema: TableSchema, file: Path) -> Any:
    """Choose the tree named `events`, the only tree, or the only one with the first feature."""
    classes = content.classnames(recursive=True, cycle=False)
    trees = [name for name, kind in classes.items() if kind.startswith("TTree") or "RNTuple" in kind]
    if TREE in trees:
        return content[TREE]
    if len(trees) > 1:
        trees = [name for name in trees if schema.features[0] in content[name].keys()]  # noqa: SIM118
    if len(trees) != 1:
        found = ", ".join(sorted(classes)) or "nothing"
        raise DataError(f"{file}: no single tree of events (one named {TREE!r} would be taken); the file holds {found}")
    return content[trees[0]]


def _series(name: str, values: Any, file: Path) -> pl.Series:
    if values.ndim != 1 or (values.dtype == object and len(values) and not isinstance(values[0], str)):
        raise DataError(f"{file}: column {name}: a branch with several values per event; one number each is needed")
    if values.dtype == object:
        return pl.Series(name, values.tolist(), dtype=pl.String)
    return pl.Series(name, np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("=")))


def _characters(column: pl.Series) -> pl.Series:
    """Turn a branch of single characters into text; leave everything else."""
    if column.dtype not in (pl.Int8, pl.UInt8) or column.is_in([0, 1]).all():
        return column
    codes = [chr(code) for code in range(256)]
    return pl.Series(column.name, [codes[int(code) & 255] for code in column.to_list()], dtype=pl.String)


def write_root(frame: pl.DataFrame, target: Path) -> None:
    """Write a table as TTree `events`, text columns as text branches.

    Args:
        frame: table without nulls.
        target: file to write; the caller makes the writing atomic.

    Raises:
        MissingExtraError: if uproot is not installed.
    """
    uproot = _uproot()
    import awkward

    text = awkward.Array(["s"]).type.content
    kinds = {name: text if kind == pl.String() else kind for name, kind in _numpy_types(frame).items()}
    with uproot.recreate(str(target)) as content:
        tree = content.mktree(TREE, kinds, title="higgsbench events")
        for start in range(0, frame.height, _BLOCK):
            block = frame.slice(start, _BLOCK)
            tree.extend({column.name: _branch(column, awkward) for column in block.iter_columns()})


def _numpy_types(frame: pl.DataFrame) -> dict[str, Any]:
    return {
        name: kind if kind == pl.String() else np.dtype(np.int64 if kind.is_integer() else np.float64)
        for name, kind in frame.schema.items()
    }


def _branch(column: pl.Series, awkward: Any) -> Any:
    if column.dtype != pl.String():
        return column.to_numpy()
    # The array is put together from its parts: awkward's own way from Python strings is ten times slower.
    letters = np.frombuffer("".join(column.to_list()).encode(), dtype=np.uint8)
    offsets = np.concatenate([[0], np.cumsum(column.str.len_bytes().to_numpy(), dtype=np.int64)])
    characters = awkward.contents.NumpyArray(letters, parameters={"__array__": "char"})
    index = awkward.index.Index64(offsets)
    return awkward.Array(awkward.contents.ListOffsetArray(index, characters, parameters={"__array__": "string"}))


def _write_csv(frame: pl.DataFrame, target: Path) -> None:
    # Polars writes the shortest decimal that reads back as the same number, as the official files do.
    frame.write_csv(target)


def _write_gzip(frame: pl.DataFrame, target: Path) -> None:
    # No name and no time in the gzip header: equal events make equal files.
    with target.open("wb") as raw, gzip.GzipFile("", "wb", compresslevel=4, fileobj=raw, mtime=0) as stream:
        for block in frame.iter_slices(1 << 16):
            text = block.write_csv(include_header=False)
            if stream.tell() == 0:
                text = ",".join(frame.columns) + "\n" + text
            stream.write(text.encode())


def _write_parquet(frame: pl.DataFrame, target: Path) -> None:
    frame.write_parquet(target, compression="zstd")


FORMATS: dict[str, Callable[[pl.DataFrame, Path], None]] = {
    ".csv.gz": _write_gzip,
    ".csv": _write_csv,
    ".parquet": _write_parquet,
    ".root": write_root,
}
"""Ending of the file name and the function that writes it."""


def output_format(target: Path) -> str:
    """Return the ending in `FORMATS` by which a file will be written.

    Raises:
        DataError: if the name has none of the endings.
    """
    for ending in FORMATS:
        if target.name.lower().endswith(ending) and len(target.name) > len(ending):
            return ending
    raise DataError(f"{target}: unknown kind of output; the name must end in one of {', '.join(FORMATS)}")


def write_events(frame: pl.DataFrame, target: str | Path, schema: TableSchema = ATLAS_HIGGS) -> Path:
    """Write events whole or not at all, columns in the order of the layout, missing values as its sentinel.

    Args:
        frame: events, missing values null.
        target: file to write; its ending chooses the format.
        schema: the layout.

    Returns:
        The path written.

    Raises:
        DataError: if the ending is unknown or the file cannot be written.
        MissingExtraError: for ROOT without uproot.
    """
    path = Path(target).expanduser()
    write = FORMATS[output_format(path)]
    table = frame.select(name for name in column_types(schema) if name in frame.columns)
    if schema.missing is not None:
        measured = [name for name in schema.features if name not in schema.integers]
        table = table.with_columns(pl.col(measured).fill_null(schema.missing))
    try:
        with atomic_path(path) as temporary:
            write(table, temporary)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error
    return path
