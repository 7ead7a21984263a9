"""Streams simulated events into a file."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import polars as pl
from polars.io.plugins import register_io_source

from higgsbench.errors import ConfigError
from higgsbench.events.simulate.blocks import SCHEMA, simulate_batches
from higgsbench.files import atomic_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from higgsbench.events.simulate.settings import SimulationSettings

__all__ = ["FORMATS", "write_simulated"]

_BYTES = {".csv": 240, ".csv.gz": 80, ".parquet": 80}
"""Bytes per event on disk, a little less than measured."""

FORMATS: tuple[str, ...] = tuple(_BYTES)
"""Endings of file names that `write_simulated` understands."""


def _check_space(path: Path, events: int, ending: str) -> None:
    """Refuse a file that its disk cannot hold, before hours are spent on it."""
    try:
        disk = shutil.disk_usage(path.parent)
    except OSError:
        return
    need = events * _BYTES[ending]
    if disk.total and need > disk.free:  # some network disks tell no size at all
        raise ConfigError(
            f"cannot write {path}: {events:,} events take about {need / 1e9:,.1f} GB as {ending} "
            f"({_BYTES[ending]} bytes each), its disk has {disk.free / 1e9:,.1f} GB free: "
            f"take at most {disk.free // _BYTES[ending]:,} events or another disk"
        )


def _write_csv(batches: Iterator[pl.DataFrame], file: BinaryIO) -> None:
    for number, batch in enumerate(batches):
        batch.write_csv(file, include_header=number == 0)


def _write_gzip(batches: Iterator[pl.DataFrame], path: Path) -> None:
    # Neither a name nor a time in the header, so that the same events give the same bytes.
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as file:
        for number, batch in enumerate(batches):
            file.write(batch.write_csv(include_header=number == 0).encode())


def _write_parquet(batches: Iterator[pl.DataFrame], path: Path) -> None:
    def source(
        with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        yield from batches  # a sink of everything: there is nothing to push down

    frame = register_io_source(source, schema=pl.Schema(SCHEMA))
    frame.sink_parquet(path, maintain_order=True)


def write_simulated(settings: SimulationSettings, path: Path | str, jobs: int = 1) -> Path:
    """Simulate a data set into a file, with memory that does not depend on its size.

    The file appears under its name only when it is complete; until then it has a temporary name beside it.

    Args:
        settings: the data set.
        path: where to write; the ending selects the format, one of `FORMATS`.
        jobs: number of processes, at least 1. The bytes of the file do not depend on it.

    Returns:
        The path of the file.

    Raises:
        ConfigError: if the ending is unknown, the directory does not exist or its disk has too little space.
    """
    path = Path(path)
    ending = next((e for e in FORMATS if path.name.lower().endswith(e)), None)
    if ending is None:
        raise ConfigError(f"cannot write {path.name!r}: the name must end in one of {', '.join(FORMATS)}")
    if not path.parent.is_dir():
        raise ConfigError(f"cannot write {path}: there is no directory {path.parent}")
    _check_space(path, settings.events, ending)
    batches = simulate_batches(settings, jobs)
    try:
        with atomic_path(path) as partial:
            if ending == ".parquet":
                _write_parquet(batches, partial)
            elif ending == ".csv.gz":
                _write_gzip(batches, partial)
            else:
                with partial.open("wb") as file:
                    _write_csv(batches, file)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}") from error
    return path
