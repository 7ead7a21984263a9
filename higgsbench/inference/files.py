"""Scores of shifted events from files, joined to their truth and weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from higgsbench.errors import ConfigError, DataError
from higgsbench.events import load_events
from higgsbench.inference.shifts import ShiftedScores
from higgsbench.metrics.weights import evaluation_weights
from higgsbench.panics import no_panic

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["parse_shift", "read_shifts"]

Shift = tuple[str, Path, Path]


def parse_shift(text: str) -> Shift:
    """Split NAME=UP.parquet,DOWN.parquet.

    Raises:
        ConfigError: if the text is of another form.
    """
    name, equals, files = text.partition("=")
    up, comma, down = files.partition(",")
    if not (name.isidentifier() and equals and up and comma and down):
        raise ConfigError(f"--shift {text}: write NAME=UP.parquet,DOWN.parquet, the name of letters, digits and _")
    return name, Path(up), Path(down)


def read_shifts(
    events: Path, nominal: Path, shifts: Sequence[Shift], totals: tuple[float, float]
) -> tuple[ShiftedScores, dict[str, tuple[ShiftedScores, ShiftedScores]]]:
    """Read nominal and shifted scores of the same labelled events.

    Args:
        events: event file with labels and weights.
        nominal: Parquet with EventId and score of the events as they are.
        shifts: name, file of the upward and of the downward shift; events that a shift lost may be absent, and a column
            `weight` (as in the event file) replaces the event file's where a shift moves weights.
        totals: reference totals (N_s, N_b), met by the nominal events.

    Returns:
        The nominal scores and the shifted ones by name.

    Raises:
        DataError: if a file cannot be read, or its events are not those of the event file.
    """
    loaded = load_events(events)
    if not loaded.labelled:
        raise DataError(f"{events}: has no labels and weights")
    truth = pl.DataFrame({"EventId": loaded.event_id, "y": loaded.y, "stored": loaded.weight})
    frame = _joined(nominal, truth)
    y, stored = frame["y"].to_numpy().astype(np.bool_), frame["stored"].to_numpy()
    weight = evaluation_weights(y, stored, *totals)
    factors = [float(np.sum(weight[rows]) / np.sum(stored[rows])) for rows in (y, ~y)]
    base = ShiftedScores("nominal", y, frame["score"].to_numpy(), weight, frame["EventId"].to_numpy())
    known = frame.select("EventId", "y", "stored")
    out = {}
    for name, *sides in shifts:
        up, down = (
            _side(f"{name} {way}", path, known, factors) for way, path in zip(("up", "down"), sides, strict=True)
        )
        out[name] = (up, down)
    return base, out


def _side(name: str, path: Path, known: pl.DataFrame, factors: list[float]) -> ShiftedScores:
    frame = _joined(path, known)
    y = frame["y"].to_numpy().astype(np.bool_)
    stored = frame["weight" if "weight" in frame.columns else "stored"].cast(pl.Float64).to_numpy()
    scaled = stored * np.where(y, *factors)
    return ShiftedScores(name, y, frame["score"].to_numpy(), scaled, frame["EventId"].to_numpy())


def _joined(path: Path, truth: pl.DataFrame) -> pl.DataFrame:
    try:
        with no_panic():
            frame = pl.read_parquet(path, glob=False, hive_partitioning=False)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path}: cannot be read as Parquet ({str(error).splitlines()[0]})") from error
    missing = [name for name in ("EventId", "score") if name not in frame.columns]
    if missing:
        raise DataError(f"{path}: no column {missing[0]!r}; `higgsbench predict` writes EventId and score")
    kinds = {"EventId": pl.Int64, "score": pl.Float64, "weight": pl.Float64}
    try:
        frame = frame.select(pl.col(name).cast(kind) for name, kind in kinds.items() if name in frame.columns)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path}: EventId, score or weight holds values that are no numbers") from error
    if frame["EventId"].is_duplicated().any():
        raise DataError(f"{path}: an EventId stands twice")
    if not frame["score"].is_finite().fill_null(value=False).all():
        raise DataError(f"{path}: column 'score' holds values that are missing or not finite")
    joined = frame.join(truth, on="EventId", how="inner").sort("EventId")
    if joined.height < frame.height or not frame.height:
        raise DataError(
            f"{path}: {frame.height - joined.height:,} of {frame.height:,} events are not among the expected"
        )
    return joined
