"""What the sections of a report draw from: the stored run, its events, its models."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import polars as pl
from pydantic import ValidationError

from higgsbench.config.document import read_yaml
from higgsbench.config.load import source_events
from higgsbench.config.model import DataConfig
from higgsbench.errors import ConfigError, DataError, HiggsbenchError, StoreError
from higgsbench.events import Events, load_events
from higgsbench.files import no_panic, read_vouched, read_vouched_json
from higgsbench.leaderboard import Leaderboard
from higgsbench.metrics.weights import evaluation_weights
from higgsbench.pages.drawing import INK, SERIES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl
    from numpy.typing import NDArray

    from higgsbench.inference.shifts import Systematic
    from higgsbench.leaderboard import Table
    from higgsbench.pages.drawing import Pictures

__all__ = ["Context", "FittedModels", "Reloaded", "Scorer", "Scores", "StoredReport", "TrainingScores",
           "affordable_events", "find_run", "histogram", "read_run", "reload_events", "row_looks", "subsample",
           "training_scores"]  # fmt: skip


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


@dataclass(frozen=True)
class Reloaded:
    """The events of a run, as far as they could be found again.

    Attributes:
        train: the cross-validated events themselves, or None.
        held_out: scores of the held-out events with their truth, or None.
        test: these events, or None.
        notes: what is missing, and why.
    """

    train: Events | None
    held_out: Scores | None
    test: Events | None
    notes: tuple[str, ...]


def reload_events(run: StoredReport, data: Path | None = None, test: Path | None = None) -> Reloaded:
    """Load the events of a run again.

    Args:
        run: the run as stored.
        data: event file, instead of the one that the run's configuration names (it may have moved).
        test: file of held-out events, likewise.

    Returns:
        The events; where they are gone or have changed, a note says so.

    Raises:
        HiggsbenchError: if a file that the caller names cannot be used.
    """
    try:
        config = _data_config(run.folder / "config.yaml", data, test)
        events = source_events(config)
        train = _matching(events, run.event_id, run.table.comparability.get("data"))
    except HiggsbenchError as error:
        if data is not None:
            raise
        return Reloaded(
            None, None, None, (f"The run's events cannot be loaded again: {error}. --data names the file.",)
        )
    notes: list[str] = []
    held_out = found = None
    if run.test_event_id is not None:
        try:
            found = _test_events(run, run.test_event_id, config, events)
            held_out = _held_out_events(run, found)
        except HiggsbenchError as error:
            if test is not None:
                raise
            notes.append(f"The held-out events cannot be loaded again: {error}. --test names the file.")
    return Reloaded(train, held_out, found, tuple(notes))


def _data_config(file: Path, data: Path | None, test: Path | None) -> DataConfig:
    with contextlib.suppress(OSError):  # said by read_yaml
        read_vouched(file.parent, file.name)
    content = read_yaml(file).value
    section = dict(content.get("data") or {}) if isinstance(content, dict) else {}
    if data is not None:
        layout = {key: section[key] for key in ("schema", "test", "train_sets", "test_sets") if key in section}
        section = {**layout, "source": "file", "path": str(data)}
    if test is not None:
        section["test"] = str(test)
    try:
        return DataConfig.model_validate(section)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        at = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{file}: data.{at}: {first['msg']}") from error


def _matching(events: Events, wanted: NDArray[np.int64], digest: object) -> Events:
    """Return the events of the given numbers in their order, if they are those of the run.

    Raises:
        DataError: if events are missing, or their content is not what the run saw.
    """
    order = np.argsort(events.event_id, kind="stable")
    place = np.minimum(np.searchsorted(events.event_id[order], wanted), len(events) - 1)
    rows = order[place]
    lost = events.event_id[rows] != wanted
    if lost.any():
        raise DataError(f"{events.source}: {int(lost.sum())} of the run's {wanted.size} events are not in it")
    found = events.take(rows.astype(np.int64))
    if found.digest != digest:
        raise DataError(f"{events.source}: holds other events, or other values, than the run saw")
    return found


def _test_events(run: StoredReport, wanted: NDArray[np.int64], config: DataConfig, events: Events) -> Events:
    source = events if config.test is None else load_events(config.test, events.schema)
    return _matching(source, wanted, run.table.comparability.get("test"))


def _held_out_events(run: StoredReport, test: Events) -> Scores | None:
    if not test.labelled:
        return None
    weight = evaluation_weights(test.y, test.weight, *run.totals)
    return Scores(test.y, weight, {name: values[None, :] for name, values in run.test_scores.items()})


MAX_EVENTS = 20_000
"""Training events whose in-sample scores are drawn, at most."""

IN_SAMPLE_SECONDS = 10.0
"""What the in-sample scores of all rows may take, by the stored times."""


class Scorer(Protocol):
    """Whatever scores events."""

    @property
    def name(self) -> str:
        """The row whose scores these are."""
        ...

    def scores(self, frame: pl.DataFrame) -> NDArray[np.float64]:
        """Return (n,) log-odds of events, missing values as null."""
        ...


class FittedModels(Protocol):
    """The stored models of a run. Every method but `blended` raises a HiggsbenchError that says why it cannot."""

    def in_sample(self, name: str, frame: pl.DataFrame, event_id: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return (n,) log-odds of training events by models of a row that saw them."""
        ...

    def blended(self, scores: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64] | None:
        """Return the stack's (n,) log-odds from those of its members, or None where it cannot."""
        ...

    def unseen(self, name: str, event_id: NDArray[np.int64]) -> Scorer:
        """Return a scorer of these (n,) training events by models that did not see them."""
        ...

    def held_out(self, name: str) -> Scorer:
        """Return a scorer of events that are no training events."""
        ...

    def contributions(
        self, name: str, frame: pl.DataFrame, event_id: NDArray[np.int64]
    ) -> tuple[tuple[str, ...], NDArray[np.float64], NDArray[np.float64]]:
        """Return names of p features, their values (n, p) and what they add to the log-odds (n, p)."""
        ...


@dataclass(frozen=True)
class TrainingScores:
    """Scores of training events by models that saw them.

    Attributes:
        scores: the scores of those rows for which there are any, or None.
        notes: which rows have none, and why.
    """

    scores: Scores | None
    notes: tuple[str, ...]


def subsample(events: int, wanted: int, seed: int = 0) -> NDArray[np.int64]:
    """Return positions of at most so many events, ascending, the same ones every time."""
    if events <= wanted:
        return np.arange(events)
    return np.sort(np.random.default_rng(seed).choice(events, wanted, replace=False))


def affordable_events(record: dict[str, Any], seconds: float, passes: int, most: int) -> int:
    """Return how many events a row can score so many times within the seconds, by its stored time per event."""
    each = record.get("predict_us")
    if not isinstance(each, (int, float)) or not each > 0.0:
        return most
    return min(most, int(seconds * 1e6 / (each * passes)))


def training_scores(
    run: StoredReport, events: Events, models: FittedModels, names: Sequence[str], seconds: float = IN_SAMPLE_SECONDS
) -> TrainingScores:
    """Score training events by models that saw them.

    Args:
        run: the run.
        events: its cross-validated events, in the order of the stored scores.
        models: its stored models.
        names: rows wanted, in order; members of the stack follow. Rows that no longer fit into the time get none.
        seconds: limit, by the stored times per event.
    """
    rows = subsample(len(events), MAX_EVENTS)
    frame, event_id = events.frame[rows], run.event_id[rows]
    # Every repeat has one model that did not see an event.
    fits = (int(run.table.comparability.get("folds", 2)) - 1) * int(run.table.comparability.get("repeats", 1))
    found: dict[str, NDArray[np.float64]] = {}
    reasons: dict[str, list[str]] = {}
    slow = []
    for record in _in_order(run, names):
        name = record["name"]
        cost = rows.size * fits * float(record.get("predict_us") or 0.0) / 1e6
        if cost > seconds:
            slow.append(name)
            continue
        seconds -= cost
        try:
            found[name] = models.in_sample(name, frame, event_id)
        except HiggsbenchError as error:
            reasons.setdefault(str(error), []).append(name)
    blended = models.blended(found) if found else None
    if blended is not None:
        found["stack"] = blended
    notes = [f"No training scores of {', '.join(names)}: {reason}." for reason, names in reasons.items()]
    if slow:
        notes.append(f"No training scores, which would take long, of: {', '.join(slow)}.")
    if not found:
        return TrainingScores(None, tuple(notes))
    y = run.scores.y[rows]
    weight = evaluation_weights(y, run.scores.weight[rows], *run.totals)
    return TrainingScores(Scores(y, weight, {name: s[None, :] for name, s in found.items()}), tuple(notes))


def _in_order(run: StoredReport, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the trained rows wanted, then those the stack needs besides."""
    blended = run.stack["members"] if run.stack is not None and "stack" in names else []
    members = [m["name"] for m in blended if m["weight"]]
    trained = {r["name"]: r for r in run.rows if r["name"] != "stack"}
    return [trained[name] for name in dict.fromkeys([*names, *members]) if name in trained]


def histogram(
    values: NDArray[np.float64], weight: NDArray[np.float64], edges: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums of weights and of squared weights by bin; what lies outside counts in the outermost bins.

    Args:
        values: (repeats, n) or (n,) values.
        weight: (n,) weights; every repeat gets its equal part of them.
        edges: (k + 1,) bin edges.

    Returns:
        (k,) sums and (k,) variances. Repeats share their events, so the variance is the mean over repeats.
    """
    rows = np.atleast_2d(values)
    sums, squares = np.zeros(edges.size - 1), np.zeros(edges.size - 1)
    for row in rows:
        place = np.clip(np.searchsorted(edges, row, side="right") - 1, 0, edges.size - 2)
        sums += np.bincount(place, weight, minlength=edges.size - 1) / len(rows)
        squares += np.bincount(place, weight**2, minlength=edges.size - 1) / len(rows)
    return sums, squares


_DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)))
_MARKERS = "osD^vP<>X*"


def row_looks(records: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Give every row a colour by model, a line by variant and a marker by model; the blend is drawn in ink.

    Where models outnumber the colours, line and marker tell them apart.
    """
    labels = sorted({r["label"] for r in records if r["label"] != "stack"})
    variants = {label: sorted({r["variant"] for r in records if r["label"] == label}) for label in labels}
    out = {}
    for record in records:
        label = record["label"]
        if label not in variants:
            out[record["name"]] = {"color": INK, "linestyle": "-", "marker": "*"}
            continue
        number = labels.index(label)
        step = variants[label].index(record["variant"]) + number // len(SERIES)
        out[record["name"]] = {"color": SERIES[number % len(SERIES)], "linestyle": _DASHES[step % len(_DASHES)],
                               "marker": _MARKERS[number % len(_MARKERS)]}  # fmt: skip
    return out


MOST_DRAWN = 8
"""Rows, beside the stack, that get figures of their own: with a dozen they would be nine tenths of the page."""


@dataclass(frozen=True)
class Context:
    """All that sections draw from.

    Attributes:
        run: the stored run.
        events: its events, as far as they could be loaded again.
        pictures: takes the figures.
        models: the stored models, or None where none may be asked.
        all_rows: whether every row gets figures of its own.
        systematics: systematic shifts whose effect is shown.
        shift_events: file of labelled events that are shifted, instead of the run's own.
    """

    run: StoredReport
    events: Reloaded
    pictures: Pictures
    models: FittedModels | None = None
    all_rows: bool = False
    systematics: Sequence[Systematic] = ()
    shift_events: Path | None = None

    @cached_property
    def looks(self) -> dict[str, dict[str, Any]]:
        """Colour, line and marker of every row, the same in all figures."""
        return row_looks(self.run.rows)

    @property
    def drawn(self) -> list[dict[str, Any]]:
        """Records of the rows that get figures of their own: the best ones and the stack."""
        rows = self.run.rows
        best = {
            r["name"] for r in [r for r in rows if r["name"] != "stack"][: len(rows) if self.all_rows else MOST_DRAWN]
        }
        return [r for r in rows if r["name"] in best or r["name"] == "stack"]

    @property
    def left_out(self) -> str:
        """A sentence on the rows without figures of their own; empty where all have them."""
        rows, drawn = len(self.run.rows), len(self.drawn)
        return f" Drawn: {drawn} of {rows} rows, the best and the stack; --all-rows draws all." if drawn < rows else ""

    @cached_property
    def training(self) -> TrainingScores:
        """Scores of training events by the stored models that saw them."""
        if self.models is None or self.events.train is None:
            return TrainingScores(None, ())
        return training_scores(self.run, self.events.train, self.models, [r["name"] for r in self.drawn])
