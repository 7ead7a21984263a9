"""Tables of scores, written part by part: whole or not at all, in bounded memory."""

from __future__ import annotations

import gzip
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import polars as pl

from higgsbench.errors import DataError
from higgsbench.files import atomic_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["check_ending", "write_scores"]

_TEXT = (".csv", ".csv.gz")
_ROWS_PER_PIECE = 1 << 20


def check_ending(target: Path, *, text_only: bool = False) -> None:
    """Check, before the work, that a file of that name can be written.

    Raises:
        DataError: if the ending is not known or there is no such folder.
    """
    if str(target) == "-":
        return
    endings = _TEXT if text_only else (*_TEXT, ".parquet")
    if not target.name.lower().endswith(endings):
        raise DataError(f"{target}: the name must end with {', '.join(endings)}, or be - for standard output")
    if not target.expanduser().parent.is_dir():
        raise DataError(f"{target}: cannot be written: there is no folder {target.parent}")


def write_scores(parts: Iterable[pl.DataFrame], target: Path) -> None:
    """Write parts of a table one after the other.

    Args:
        parts: tables of the same columns.
        target: .csv, .csv.gz or .parquet; `-` writes CSV to standard output.

    Raises:
        DataError: if the disk refuses.
    """
    if str(target) == "-":
        sys.stdout.flush()
        _write_csv(parts, sys.stdout.buffer)
        return
    path = target.expanduser()
    try:
        with atomic_path(path) as temporary:
            if path.name.lower().endswith(".parquet"):
                _write_parquet(parts, temporary)
            elif path.name.lower().endswith(".gz"):
                with temporary.open("wb") as raw, gzip.GzipFile("", "wb", 4, raw, mtime=0) as packed:
                    _write_csv(parts, packed)
            else:
                with temporary.open("wb") as stream:
                    _write_csv(parts, stream)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error


def _write_csv(parts: Iterable[pl.DataFrame], stream: BinaryIO | gzip.GzipFile) -> None:
    for number, part in enumerate(parts):
        stream.write(part.write_csv(include_header=number == 0).encode())
    stream.flush()


def _write_parquet(parts: Iterable[pl.DataFrame], target: Path) -> None:
    """Write pieces to files of their own and join them, for Polars has no writer that is fed bit by bit."""
    with tempfile.TemporaryDirectory(prefix="higgsbench-") as folder:
        pieces: list[Path] = []
        for piece in _pieces(parts):
            pieces.append(Path(folder) / f"{len(pieces)}.parquet")
            piece.write_parquet(pieces[-1], compression="zstd")
        pl.scan_parquet(pieces, glob=False, hive_partitioning=False).sink_parquet(target, compression="zstd")


def _pieces(parts: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Gather small parts into tables of about a million rows."""
    waiting: list[pl.DataFrame] = []
    for part in parts:
        waiting.append(part)
        if sum(p.height for p in waiting) >= _ROWS_PER_PIECE:
            yield pl.concat(waiting)
            waiting = []
    if waiting:
        yield pl.concat(waiting)
