"""Who selects which event, as a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from higgsbench.errors import ConfigError, StoreError
from higgsbench.files import atomic_path

if TYPE_CHECKING:
    from pathlib import Path

    from higgsbench.compare.contest import Comparison
    from higgsbench.compare.load import Contender

__all__ = ["check_target", "write_selections"]

_SUFFIXES = (".parquet", ".csv")


def check_target(target: Path) -> None:
    """Check a file name before any work is done.

    Raises:
        ConfigError: if it ends on anything but .parquet or .csv.
    """
    if target.suffix not in _SUFFIXES:
        raise ConfigError(f"--events {target}: the name must end on .parquet or .csv")


def write_selections(target: Path, shared: Contender, comparison: Comparison) -> None:
    """Write EventId, truth, evaluation weight and one boolean per model (its honest selection, first repeat).

    Args:
        target: Parquet or CSV file.
        shared: any of the compared models; all share these events.
        comparison: the comparison.

    Raises:
        StoreError: if the file cannot be written.
    """
    columns: dict[str, Any] = {"EventId": shared.event_id, "signal": shared.truth.y, "weight": shared.truth.weight}
    columns |= {f"selected:{model.name}": model.selected[0] for model in comparison.models}
    try:
        with atomic_path(target) as temporary:
            frame = pl.DataFrame(columns)
            if target.suffix == ".csv":
                frame.write_csv(temporary)
            else:
                frame.write_parquet(temporary)
    except OSError as error:
        raise StoreError(f"{target}: cannot be written: {error.strerror}") from error
