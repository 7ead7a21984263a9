"""What a report reads of a stored run: rows, scores, stack, configuration, environment."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from higgsbench.errors import ConfigError, StoreError
from higgsbench.leaderboard import Leaderboard
from higgsbench.metrics.weights import evaluation_weights
from higgsbench.panics import no_panic
from higgsbench.sealed import read_vouched, read_vouched_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from higgsbench.leaderboard import Table

__all__ = ["Scores", "StoredReport", "find_run", "read_run"]

_PREFIX = "score:"


@dataclass(frozen=True)
class Scores:
    """Scores of labelled events under all rows of a run.

    Attributes:
        y: (n,) truth.
        weight: (n,) evaluation weights at the reference totals.
        by_row: (repeats, n) log-odds by the row's name; held-out scores have one repeat.
    """

    y: NDArray[np.bool_]
    weight: NDArray[np.float64]
    by_row: dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class StoredReport:
    """One run as stored.

    Attributes:
        folder: its folder.
        table: its rows, ranked; failed rows come last.
        event_id: (n,) numbers of the cross-validated events.
        scores: their out-of-fold scores.
        test_event_id: (m,) numbers of the held-out events, or None.
        test_scores: (m,) scores of the held-out events by the row's name; their truth is not stored.
        stack: members and weights of the blend, or None.
        learning_curve: points of a learning curve, or None.
        configuration: the text of the resolved configuration.
        environment: versions and hardware.
        notes: what could not be read.
    """

    folder: Path
    table: Table
    event_id: NDArray[np.int64]
    scores: Scores
    test_event_id: NDArray[np.int64] | None
    test_scores: dict[str, NDArray[np.float64]]
    stack: dict[str, Any] | None
    learning_curve: list[dict[str, Any]] | None
    configuration: str
    environment: dict[str, Any]
    notes: tuple[str, ...]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Records of the rows that have numbers and scores, best first."""
        return [r for r in self.table.rows if r["status"] == "ok" and r["name"] in self.scores.by_row]

    @property
    def totals(self) -> tuple[float, float]:
        """Reference totals (N_s, N_b)."""
        return float(self.table.comparability["n_s"]), float(self.table.comparability["n_b"])

    @property
    def b_reg(self) -> float:
        """Regularisation of the background in the AMS."""
        return float(self.table.comparability["b_reg"])


def find_run(path: Path) -> Path:
    """Return a run's folder: the path itself, or the run finished last among those in it.

    Raises:
        StoreError: if there is no finished run.
    """
    if not path.is_dir():
        raise StoreError(f"{path}: no such folder; name a run's folder, or a folder that holds runs")
    if (path / "rows.json").exists():
        return path
    finished = sorted(path.glob("*/rows.json"), key=lambda file: (file.stat().st_mtime_ns, file.parent.name))
    if not finished:
        raise StoreError(f"{path}: no finished run here; `higgsbench run` makes one")
    return finished[-1].parent


def read_run(folder: Path) -> StoredReport:
    """Read a run.

    Args:
        folder: the run's folder.

    Raises:
        StoreError: if the run is unfinished or damaged, with the file's name.
    """
    try:
        board = Leaderboard.read(folder)
    except ConfigError as error:
        raise StoreError(f"{folder}: no row of this run has numbers; there is nothing to draw") from error
    if not board.tables:
        raise StoreError(board.notes[0] if board.notes else f"{folder}: rows.json has no row")
    table = board.tables[0]
    for key in ("n_s", "n_b", "b_reg"):
        if not isinstance(table.comparability.get(key), (int, float)):
            raise StoreError(f"{folder / 'rows.json'}: no number {key} in the comparability")
    event_id, scores = _out_of_fold(folder / "scores.parquet", table)
    notes = list(board.notes)
    test_event_id, test_scores = _held_out(folder / "test_scores.parquet")
    return StoredReport(
        folder=folder,
        table=table,
        event_id=event_id,
        scores=scores,
        test_event_id=test_event_id,
        test_scores=test_scores,
        stack=_stack(folder / "stack.json", notes),
        learning_curve=_learning_curve(folder / "learning_curve.json", notes),
        configuration=_text(folder / "config.yaml", notes),
        environment=_object(folder / "environment.json", notes) or {},
        notes=tuple(notes),
    )


def _parquet(file: Path) -> pl.DataFrame:
    try:
        with no_panic():
            return pl.read_parquet(io.BytesIO(read_vouched(file.parent, file.name)))
    except FileNotFoundError as error:
        raise StoreError(f"{file}: is missing; run the configuration again to write it") from error
    except (OSError, pl.exceptions.PolarsError) as error:
        raise StoreError(f"{file}: cannot be read; run the configuration again to write it anew") from error


def _score_columns(frame: pl.DataFrame, file: Path) -> dict[str, NDArray[np.float64]]:
    out = {}
    for name in (n for n in frame.columns if n.startswith(_PREFIX)):
        column = frame[name]
        if not column.dtype.is_numeric() or column.null_count() or not column.cast(pl.Float64).is_finite().all():
            raise StoreError(f"{file}: column {name!r} holds values that are not finite numbers")
        out[name.removeprefix(_PREFIX)] = column.cast(pl.Float64).to_numpy()
    return out


def _out_of_fold(file: Path, table: Table) -> tuple[NDArray[np.int64], Scores]:
    frame = _parquet(file)
    needed = {"EventId": pl.Int64, "signal": pl.Boolean, "weight": pl.Float64, "repeat": pl.Int32}
    for name, kind in needed.items():
        if name not in frame.columns or frame[name].dtype != kind or frame[name].null_count():
            raise StoreError(f"{file}: no column {name!r} of type {kind}, or with gaps")
    events, repeats = table.comparability["events"], int(table.comparability.get("repeats", 1))
    if frame.height != events * repeats or not events:
        raise StoreError(f"{file}: has {frame.height} rows, rows.json speaks of {events} events x {repeats} repeats")
    first = frame.head(events)
    y = first["signal"].to_numpy()
    if y.all() or not y.any():
        raise StoreError(f"{file}: all events are of one class")
    # Stored weights are evaluation weights already; rescaling once more changes no digit that is printed.
    weight = evaluation_weights(
        y, first["weight"].to_numpy(), float(table.comparability["n_s"]), float(table.comparability["n_b"])
    )
    by_row = {name: values.reshape(repeats, events) for name, values in _score_columns(frame, file).items()}
    return first["EventId"].to_numpy(), Scores(y, weight, by_row)


def _held_out(file: Path) -> tuple[NDArray[np.int64] | None, dict[str, NDArray[np.float64]]]:
    if not file.exists():
        return None, {}
    frame = _parquet(file)
    if "EventId" not in frame.columns or frame["EventId"].dtype != pl.Int64:
        raise StoreError(f"{file}: no column 'EventId' of whole numbers")
    return frame["EventId"].to_numpy(), _score_columns(frame, file)


def _text(file: Path, notes: list[str]) -> str:
    try:
        return read_vouched(file.parent, file.name).decode("utf-8")
    except (OSError, UnicodeDecodeError, StoreError):
        notes.append(f"{file.name}: cannot be read")
        return ""


def _json(file: Path, notes: list[str]) -> Any:
    try:
        return read_vouched_json(file.parent, file.name)
    except (OSError, ValueError, StoreError):
        notes.append(f"{file.name}: cannot be read")
        return None


def _object(file: Path, notes: list[str]) -> dict[str, Any] | None:
    content = _json(file, notes)
    return content if isinstance(content, dict) else None


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and bool(np.isfinite(value))


def _stack(file: Path, notes: list[str]) -> dict[str, Any] | None:
    content = _json(file, notes)
    if content is None:
        return None
    members = content.get("members") if isinstance(content, dict) else None
    whole = isinstance(members, list) and all(
        isinstance(m, dict)
        and isinstance(m.get("name"), str)
        and all(_number(m.get(key)) for key in ("weight", "weight_mean_over_folds", "weight_sd_over_folds"))
        for m in members
    )
    if not whole:
        notes.append(f"{file.name}: holds no members with weights")
        return None
    found: dict[str, Any] = content
    return found


def _learning_curve(file: Path, notes: list[str]) -> list[dict[str, Any]] | None:
    if not file.exists():
        return None
    content = _json(file, notes)
    points = content.get("points") if isinstance(content, dict) else None
    numbers = ("train_events", "ams_cv", "ams_cv_se", "auc", "auc_se")
    if not isinstance(points, list) or not all(
        isinstance(p, dict) and isinstance(p.get("name"), str) and all(_number(p.get(key)) for key in numbers)
        for p in points
    ):
        notes.append(f"{file.name}: holds no points with name, {', '.join(numbers)}")
        return None
    return points
