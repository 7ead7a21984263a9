"""The out-of-fold scores of a stored run, checked: the file may come from anybody."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import polars as pl

from higgsbench.errors import StoreError
from higgsbench.files import no_panic, read_vouched

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["read_scores"]

_AGAIN = "run the configuration again to restore it"


def read_scores(run: Path, rows: Sequence[str]) -> pl.DataFrame:
    """Read scores.parquet.

    Args:
        run: the run's folder.
        rows: names of the rows whose scores are needed.

    Returns:
        EventId, signal, weight, repeat, fold and `score:NAME` of each row (float64, finite or infinite), sorted by
        repeat and event; every repeat has the same events of both classes, each once.

    Raises:
        StoreError: naming the file and the column at fault.
    """
    path = run / "scores.parquet"
    try:
        with no_panic():
            frame = pl.read_parquet(io.BytesIO(read_vouched(run, path.name)))
    except FileNotFoundError:
        raise StoreError(f"{path}: missing; {_AGAIN}") from None
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        raise StoreError(f"{path}: cannot be read: damaged or no Parquet file; {_AGAIN}") from error
    _check_columns(frame, path, rows)
    scores = [f"score:{name}" for name in rows]
    ordered = frame.select("EventId", "signal", "weight", "repeat", "fold", *dict.fromkeys(scores))
    ordered = ordered.with_columns(pl.col("weight", *scores).cast(pl.Float64)).sort("repeat", "EventId")
    for name in scores:
        if ordered[name].is_nan().any():
            raise StoreError(f"{path}: column {name!r} holds values that are no numbers; {_AGAIN}")
    if not ordered["weight"].is_finite().all():
        raise StoreError(f"{path}: column 'weight' holds values that are not finite; {_AGAIN}")
    _check_events(ordered, path)
    return ordered


def _check_columns(frame: pl.DataFrame, path: Path, rows: Sequence[str]) -> None:
    missing = [name for name in ("EventId", "signal", "weight", "repeat", "fold") if name not in frame.columns]
    if missing or not frame.height:
        raise StoreError(f"{path}: is no file of scores (no {', '.join(missing) or 'rows'})")
    for row in rows:
        if f"score:{row}" not in frame.columns:
            raise StoreError(f"{path}: no column {f'score:{row}'!r}; {_AGAIN}")
    for name in ("EventId", "repeat", "fold"):
        if not frame[name].dtype.is_integer() or frame[name].null_count():
            raise StoreError(f"{path}: column {name!r} is not of whole numbers, or has gaps; {_AGAIN}")
    if frame["signal"].dtype != pl.Boolean or frame["signal"].null_count():
        raise StoreError(f"{path}: column 'signal' is not of true and false, or has gaps; {_AGAIN}")
    for name in ("weight", *(f"score:{row}" for row in rows)):
        if not frame[name].dtype.is_numeric() or frame[name].null_count():
            raise StoreError(f"{path}: column {name!r} is not of numbers, or has gaps; {_AGAIN}")


def _check_events(ordered: pl.DataFrame, path: Path) -> None:
    repeats = ordered.partition_by("repeat", maintain_order=True)
    first = repeats[0]
    if first["EventId"].is_duplicated().any() or any(
        not part.select("EventId", "signal").equals(first.select("EventId", "signal")) for part in repeats[1:]
    ):
        raise StoreError(f"{path}: the repeats do not hold the same events, each once")
    if first["signal"].n_unique() < 2:
        raise StoreError(f"{path}: all events are of one class; {_AGAIN}")
    for part in repeats:
        folds = part.group_by("fold").agg(pl.col("signal").n_unique())
        if ordered["fold"].min() != 0 or folds.height != ordered["fold"].n_unique() or folds.height < 2:
            raise StoreError(f"{path}: column 'fold' does not number two folds or more from 0; {_AGAIN}")
