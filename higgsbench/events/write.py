"""Writing event tables in the official layout: CSV, gzipped CSV, Parquet or ROOT by the ending of the name."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from higgsbench.errors import DataError
from higgsbench.events.check import column_types
from higgsbench.events.root import write_root
from higgsbench.files import atomic_path
from higgsbench.schema import ATLAS_HIGGS

if TYPE_CHECKING:
    from collections.abc import Callable

    from higgsbench.schema import TableSchema

__all__ = ["FORMATS", "output_format", "write_events"]


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
