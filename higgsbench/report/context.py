"""What the sections of a report draw from: the stored run, its events, its models."""

from __future__ import annotations

import contextlib
import io
import itertools
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
from higgsbench.events.shifts import recognise_processes
from higgsbench.files import no_panic, read_vouched, read_vouched_json
from higgsbench.leaderboard import Leaderboard
from higgsbench.metrics.ams import ams_scan
from higgsbench.metrics.comparisons import chi2_of_shapes, ks_distance, ks_p_value
from higgsbench.metrics.weights import effective_sample_size, evaluation_weights
from higgsbench.pages.drawing import BACKGROUND, INK, PAPER, SERIES, SIGNAL, SOFT, log_axis, new_figure
from higgsbench.schema import ATLAS_HIGGS, UNITS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from higgsbench.compare.contest import RankPicture
    from higgsbench.inference.shifts import Systematic
    from higgsbench.leaderboard import Table
    from higgsbench.pages.drawing import Pictures

__all__ = [
    "Agreement",
    "Curve",
    "Efficiency",
    "Feature",
    "FittedModels",
    "Reliability",
    "Reloaded",
    "Scorer",
    "Scores",
    "Sight",
    "StoredReport",
    "TrainingScores",
    "affordable_events",
    "agreement",
    "ams_curve",
    "board_figure",
    "correlation",
    "correlation_figure",
    "cost_figure",
    "efficiency",
    "find_run",
    "histogram",
    "learning_figure",
    "rank_figure",
    "read_run",
    "rejection_figure",
    "reliability",
    "reload_events",
    "roc_figure",
    "row_looks",
    "score_edges",
    "subsample",
    "training_scores",
    "weights_figure",
]


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


_MASSES = ("DER_mass_MMC", "DER_mass_vis")


@dataclass(frozen=True)
class Feature:
    """A measured quantity.

    Attributes:
        name: column.
        unit: its unit, empty for a pure number, None where the layout does not say.
        values: (n,) values, NaN where missing.
        whole: whether it counts something (the jet number).
    """

    name: str
    unit: str | None
    values: NDArray[np.float64]
    whole: bool


@dataclass(frozen=True)
class Reloaded:
    """The events of a run, as far as they could be found again.

    Attributes:
        features: quantities of the cross-validated events in the order of the stored scores; none if the data are gone.
        process: (n,) process of each event; s and b where processes cannot be told.
        train: the cross-validated events themselves, or None.
        held_out: scores of the held-out events with their truth, or None.
        test: these events, or None.
        notes: what is missing, and why.
    """

    features: tuple[Feature, ...]
    process: NDArray[np.str_]
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
    y = run.scores.y
    plain = np.where(y, "signal", "background").astype(np.str_)
    try:
        config = _data_config(run.folder / "config.yaml", data, test)
        events = source_events(config)
        train = _matching(events, run.event_id, run.table.comparability.get("data"))
    except HiggsbenchError as error:
        if data is not None:
            raise
        return Reloaded(
            (), plain, None, None, None, (f"The run's events cannot be loaded again: {error}. --data names the file.",)
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
    return Reloaded(_features(train), _processes(train, plain), train, held_out, found, tuple(notes))


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


def _features(events: Events) -> tuple[Feature, ...]:
    schema = events.schema
    names = [] if schema.group is None else [schema.group]
    names += [name for name in _MASSES if name in schema.features]
    units = UNITS if schema.name == ATLAS_HIGGS.name else {}
    out = []
    for name in names:
        values = events.frame[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        out.append(Feature(name, units.get(name), values, name == schema.group))
    return tuple(out)


def _processes(events: Events, plain: NDArray[np.str_]) -> NDArray[np.str_]:
    """Name the process of each event; signal is one class, whatever made it."""
    schema = events.schema
    if schema.name != ATLAS_HIGGS.name or schema.weight not in events.frame.columns:
        return plain
    try:
        names = recognise_processes(events.frame[schema.weight], events.frame[schema.label].cast(pl.String))
    except DataError:
        return plain
    return np.where(events.y, "signal", names.to_numpy().astype(np.str_))


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


_POINTS = 240


@dataclass(frozen=True)
class Curve:
    """AMS against the selected share of the events, mean over repeats.

    Attributes:
        fraction: (k,) selected share.
        ams: (k,) AMS.
        se: (k,) standard error at fixed cut.
        best: (selected share, AMS) of the best cut on these very scores.
    """

    fraction: NDArray[np.float64]
    ams: NDArray[np.float64]
    se: NDArray[np.float64]
    best: tuple[float, float]


def ams_curve(scores: Scores, name: str, b_reg: float, upper: float) -> Curve:
    """Scan the AMS of a row.

    Args:
        scores: out-of-fold scores.
        name: the row.
        b_reg: regularisation of the background.
        upper: largest selected share.
    """
    n = scores.y.size
    at = np.linspace(max(5.0 / n, 1e-3), upper, _POINTS)
    values, errors, best = [], [], []
    for score in scores.by_row[name]:
        curve = ams_scan(scores.y, score, scores.weight, b_reg)
        nearest = np.minimum(np.searchsorted(curve.fraction, at), len(curve) - 1)
        values.append(curve.ams[nearest])
        errors.append(curve.se[nearest])
        top = int(np.nanargmax(curve.ams))
        best.append((float(curve.fraction[top]), float(curve.ams[top])))
    share, value = np.mean(best, axis=0)
    return Curve(at, np.mean(values, axis=0), np.mean(errors, axis=0), (float(share), float(value)))


def score_edges(scores: Sequence[NDArray[np.float64]], bins: int = 36) -> NDArray[np.float64]:
    """(bins + 1,) edges that hold all but the outermost 0.1% of the scores on either side."""
    together = np.concatenate([s.ravel() for s in scores])
    low, high = np.quantile(together, [0.001, 0.999])
    if not low < high:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, bins + 1)


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


@dataclass(frozen=True)
class Agreement:
    """How well the scores of one class agree between two samples.

    Attributes:
        ks: weighted Kolmogorov-Smirnov distance.
        ks_p: its p-value with effective numbers of events (approximate).
        chi2: chi-squared of the binned shapes.
        freedom: degrees of freedom.
        chi2_p: its p-value.
    """

    ks: float
    ks_p: float
    chi2: float
    freedom: int
    chi2_p: float


def agreement(a: Scores, b: Scores, name: str, *, of_signal: bool) -> Agreement:
    """Compare the scores of one class in two samples; of several repeats the first serves."""
    parts = []
    for sample in (a, b):
        members = sample.y == of_signal
        parts.append((sample.by_row[name][0][members], sample.weight[members]))
    (x, wx), (z, wz) = parts
    distance = ks_distance(x, wx, z, wz)
    # Bins of equal content: chi-squared wants many events in each.
    inner = np.unique(np.quantile(np.concatenate([x, z]), np.linspace(0.0, 1.0, 21)[1:-1]))
    edges = np.concatenate([[-np.inf], inner, [np.inf]])
    chi2, freedom, p = chi2_of_shapes(*histogram(x, wx, edges), *histogram(z, wz, edges))
    return Agreement(
        distance, ks_p_value(distance, effective_sample_size(wx), effective_sample_size(wz)), chi2, freedom, p
    )


@dataclass(frozen=True)
class Efficiency:
    """Background efficiency against signal efficiency.

    Attributes:
        signal: (k,) signal efficiency, ascending.
        background: (k,) weighted background efficiency there.
        events: (k,) effective number of selected background events there.
    """

    signal: NDArray[np.float64]
    background: NDArray[np.float64]
    events: NDArray[np.float64]


def efficiency(scores: Scores, name: str) -> Efficiency:
    """Weighted ROC curve at even signal efficiencies, mean over repeats."""
    at = np.linspace(0.005, 1.0, 200)
    background, effective = [], []
    for score in scores.by_row[name]:
        curve = ams_scan(scores.y, score, scores.weight)
        share = curve.s / curve.s[-1]
        place = np.minimum(np.searchsorted(share, at - 1e-12), len(curve) - 1)
        squares = np.cumsum(np.where(curve.sorted_labels, 0.0, curve.sorted_weights**2))[curve.count - 1]
        background.append((curve.b / curve.b[-1])[place])
        with np.errstate(invalid="ignore", divide="ignore"):
            effective.append(np.where(squares > 0.0, curve.b**2 / squares, 0.0)[place])
    return Efficiency(at, np.mean(background, axis=0), np.mean(effective, axis=0))


@dataclass(frozen=True)
class Reliability:
    """Log-odds that were predicted against those that are found, in bins of the prediction.

    Attributes:
        predicted: (k,) logit of the mean predicted probability.
        found: (k,) ln(s / b) of the bin's sums of weights.
        se: (k,) standard error of `found` (delta method).
    """

    predicted: NDArray[np.float64]
    found: NDArray[np.float64]
    se: NDArray[np.float64]


def reliability(scores: Scores, name: str, bins: int = 12) -> Reliability:
    """Bin events by predicted log-odds so that every bin holds an equal share of both classes' weight together.

    Bins without events of both classes have no log-odds and are left out.
    """
    y, weight, values = scores.y, scores.weight, scores.by_row[name]
    half = np.where(y, weight / np.sum(weight[y]), weight / np.sum(weight[~y]))
    order = np.argsort(values[0], kind="stable")
    cumulative = np.cumsum(half[order]) / np.sum(half)
    cuts = np.searchsorted(cumulative, np.linspace(0.0, 1.0, bins + 1)[1:-1])
    edges = np.concatenate([[-np.inf], np.unique(values[0][order][np.minimum(cuts, y.size - 1)]), [np.inf]])
    probability = np.mean([_binned_mean(score, weight, edges) for score in values], axis=0)
    (s, s2), (b, b2) = (histogram(values[:, m], weight[m], edges) for m in (y, ~y))
    used = (s > 0.0) & (b > 0.0)
    p = probability[used]
    se = np.sqrt(s2[used] / s[used] ** 2 + b2[used] / b[used] ** 2)
    return Reliability(np.log(p) - np.log1p(-p), np.log(s[used] / b[used]), se)


def _binned_mean(
    score: NDArray[np.float64], weight: NDArray[np.float64], edges: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Mean predicted probability of signal by bin, (k,)."""
    probability = np.exp(-np.logaddexp(0.0, -score))
    total, _ = histogram(score, weight, edges)
    part, _ = histogram(score, weight * probability, edges)
    return np.divide(part, total, out=np.full_like(part, np.nan), where=total > 0.0)


def correlation(scores: Scores, names: Sequence[str]) -> NDArray[np.float64]:
    """(m, m) weighted correlations of scores inside a class, mean of both classes.

    Inside a class, because what separates the classes would make any two good models look alike.
    """
    matrix = np.zeros((len(names), len(names)))
    for members in (scores.y, ~scores.y):
        weight = scores.weight[members] / np.sum(scores.weight[members])
        values = np.stack([scores.by_row[name][0][members] for name in names])
        centred = values - (values @ weight)[:, None]
        covariance = (centred * weight) @ centred.T
        spread = np.sqrt(np.diag(covariance))
        with np.errstate(invalid="ignore", divide="ignore"):
            matrix += 0.5 * covariance / np.outer(spread, spread)
    return matrix


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


def board_figure(records: Sequence[dict[str, Any]]) -> Figure:
    """Draw AMS and weighted AUC of all rows with one standard error, best row on top."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 1.1 + 0.27 * len(records)), layout="constrained")
    left = figure.add_subplot(1, 2, 1)
    right = figure.add_subplot(1, 2, 2, sharey=left)
    at = np.arange(len(records))
    left.errorbar([r["ams_cv"] for r in records], at, xerr=[r["ams_cv_se"] for r in records], fmt="o", markersize=4,
                  color=BACKGROUND, capsize=2.5, label="cross-validated")  # fmt: skip
    left.plot([r.get("ams_oof_max", np.nan) for r in records], at, "v", markersize=4.5, color=SERIES[5],
              markerfacecolor=PAPER, label="optimistic max")  # fmt: skip
    tested = [(i, r["ams_test"], r.get("ams_test_se") or 0.0) for i, r in enumerate(records) if r.get("ams_test")]
    if tested:
        place, values, errors = (np.array(part, dtype=float) for part in zip(*tested, strict=True))
        left.errorbar(values, place + 0.22, xerr=errors, fmt="s", markersize=3.5, color=SIGNAL, capsize=2.5,
                      label="held out, frozen cut")  # fmt: skip
    right.errorbar([r["auc"] for r in records], at, xerr=[r["auc_se"] for r in records], fmt="o", markersize=4,
                   color=BACKGROUND, capsize=2.5)  # fmt: skip
    left.set_yticks(at, [r["name"] for r in records])
    left.set_ylim(len(records) - 0.4, -0.6)
    right.tick_params(axis="y", labelleft=False)
    for ax in (left, right):
        ax.grid(axis="x", color=SOFT, alpha=0.3, linewidth=0.6)
    left.set_xlabel("AMS [standard deviations]")
    right.set_xlabel("weighted AUC")
    right.locator_params(axis="x", nbins=5)
    left.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, fontsize=7, handletextpad=0.2, columnspacing=1.0)
    return figure


def roc_figure(curves: dict[str, Efficiency], looks: dict[str, dict[str, Any]], aucs: dict[str, float]) -> Figure:
    """Draw the weighted ROC curves of all rows."""
    figure, ax = new_figure(6.4, 4.0)
    for name, curve in curves.items():
        look = looks[name]
        ax.plot(100 * curve.background, 100 * curve.signal, color=look["color"], linestyle=look["linestyle"],
                linewidth=1.1, label=f"{name}: {aucs[name]:.4f}")  # fmt: skip
    ax.plot([0, 100], [0, 100], color=SOFT, linewidth=0.8, linestyle=":")
    ax.set_xlim(0, 100)
    ax.set_ylim(0, 100)
    ax.set_xlabel("background efficiency, weighted [%]")
    ax.set_ylabel("signal efficiency, weighted [%]")
    ax.legend(loc="lower right", title="weighted AUC", fontsize=7, title_fontsize=7)
    return figure


def rejection_figure(curves: dict[str, Efficiency], looks: dict[str, dict[str, Any]], reference: str) -> Figure:
    """Draw the background rejection against the signal efficiency, and its ratio to a reference row.

    Where fewer than ten effective background events are left, a curve means nothing and is not drawn.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1.6))
    upper, lower = axes[0], axes[1]
    base = curves[reference]
    band = 1.0 / np.sqrt(np.maximum(base.events, 1.0))
    known = base.events >= 10.0
    lower.fill_between(100 * base.signal[known], 1 - band[known], 1 + band[known], color=SOFT, alpha=0.3, linewidth=0)
    for name, curve in curves.items():
        look = {key: looks[name][key] for key in ("color", "linestyle")}
        known = curve.events >= 10.0
        with np.errstate(divide="ignore", invalid="ignore"):
            upper.plot(100 * curve.signal[known], 1.0 / curve.background[known], linewidth=1.1, **look)
            lower.plot(100 * curve.signal[known], (base.background / curve.background)[known], linewidth=1.1, **look)
    log_axis(upper, "y")
    upper.set_ylim(bottom=1.0)
    lower.set_ylim(0.5, 1.3)
    lower.set_xlim(0, 100)
    upper.set_ylabel("rejection 1 / ε_b")
    lower.set_ylabel("ratio to best")
    lower.set_xlabel("signal efficiency, weighted [%]")
    return figure


def cost_figure(records: Sequence[dict[str, Any]], looks: dict[str, dict[str, Any]]) -> Figure:
    """Draw AMS and weighted AUC against the time of all fits of a row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 3.5), layout="constrained")
    axes = figure.subplots(1, 2)
    for metric, label, ax in (("ams_cv", "AMS cv [standard deviations]", axes[0]), ("auc", "weighted AUC", axes[1])):
        for record in records:
            look = looks[record["name"]]
            hollow = {} if look["linestyle"] == "-" else {"markerfacecolor": PAPER}
            ax.errorbar([record["fit_seconds"]], [record[metric]], yerr=[record[f"{metric}_se"]], fmt=look["marker"],
                        color=look["color"], markersize=5, elinewidth=0.8, label=record["name"], **hollow)  # fmt: skip
        log_axis(ax, "x")
        ax.set_xlabel("time of all fits [s]")
        ax.set_ylabel(label)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize=7)
    return figure


def weights_figure(members: Sequence[dict[str, Any]]) -> Figure:
    """Draw the weights of the blend; bars are the final ones, points their mean and spread over folds."""
    figure, ax = new_figure(5.4, 1.0 + 0.24 * len(members))
    at = np.arange(len(members))
    ax.barh(at, [m["weight"] for m in members], height=0.65, color=BACKGROUND, alpha=0.6, label="weight")
    ax.errorbar([m["weight_mean_over_folds"] for m in members], at, xerr=[m["weight_sd_over_folds"] for m in members],
                fmt="o", markersize=3, color=INK, capsize=2, label="mean ± s.d. over folds")  # fmt: skip
    ax.axvline(0.0, color=INK, linewidth=0.8)
    ax.set_yticks(at, [m["name"] for m in members])
    ax.set_ylim(len(members) - 0.4, -0.6)
    ax.set_xlabel("weight in the blend of log-odds")
    ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, fontsize=7)
    return figure


def correlation_figure(matrix: NDArray[np.float64], names: Sequence[str]) -> Figure:
    """Draw how alike the scores of rows are inside a class."""
    side = 2.4 + 0.26 * len(names)
    figure, ax = new_figure(side + 0.6, side)
    low = float(np.nanmin(matrix)) if np.isfinite(matrix).any() else 0.0
    mesh = ax.pcolormesh(matrix, cmap="cividis", vmin=min(low, 0.99), vmax=1.0, rasterized=True)
    if len(names) <= 16:
        for (i, j), value in np.ndenumerate(matrix):
            color = "#fefefe" if value < 0.5 * (low + 1.0) else "#111111"
            ax.text(j + 0.5, i + 0.5, f"{value:.2f}", ha="center", va="center", fontsize=6, color=color)
    at = np.arange(len(names)) + 0.5
    ax.set_xticks(at, names, rotation=90, fontsize=7)
    ax.set_yticks(at, names, fontsize=7)
    ax.tick_params(length=0)
    ax.set_ylim(len(names), 0)
    ax.set_xlim(0, len(names))
    figure.colorbar(mesh, ax=ax, shrink=0.7).set_label("correlation of log-odds inside a class", fontsize=7)
    return figure


def learning_figure(points: Sequence[dict[str, Any]], looks: dict[str, dict[str, Any]]) -> Figure:
    """Draw AMS and weighted AUC against the number of training events."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 3.4), layout="constrained")
    axes = figure.subplots(1, 2)
    other = {"color": INK, "linestyle": ":", "marker": "x"}
    for metric, label, ax in (("ams_cv", "AMS cv [standard deviations]", axes[0]), ("auc", "weighted AUC", axes[1])):
        for name, group in itertools.groupby(sorted(points, key=_by_name_and_size), key=lambda p: str(p["name"])):
            rows = list(group)
            x, y, se = ([row[key] for row in rows] for key in ("train_events", metric, f"{metric}_se"))
            ax.errorbar(x, y, yerr=se, markersize=4, capsize=2, label=name, **looks.get(name, other))
        log_axis(ax, "x")
        ax.set_xlabel("training events")
        ax.set_ylabel(label)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize=7)
    return figure


def _by_name_and_size(point: dict[str, Any]) -> tuple[str, float]:
    return str(point["name"]), float(point["train_events"])


def rank_figure(names: Sequence[str], ranks: Sequence[float], groups: Sequence[Sequence[int]]) -> Figure:
    """Draw average ranks, with bars over neighbours that cannot be told apart.

    The critical-difference diagram of Demsar (J. Mach. Learn. Res. 7 (2006) 1), names below each other.

    Args:
        names: models, best average rank first.
        ranks: their average ranks.
        groups: positions in `names` of models that cannot be told apart.
    """
    figure, ax = new_figure(6.4, 1.0 + 0.26 * len(names))
    at = np.arange(len(names))
    ax.hlines(at, 1.0, ranks, color=SOFT, linewidth=0.8)
    ax.plot(ranks, at, "o", color=BACKGROUND, markersize=4.5)
    right = max(ranks, default=1.0)
    wide = [group for group in groups if len(group) > 1]
    for number, group in enumerate(wide, start=1):
        x = right + 0.05 * (right - 1.0 + 1.0) * number
        ax.plot([x, x], [min(group) - 0.2, max(group) + 0.2], color=SIGNAL, linewidth=3, solid_capstyle="butt")
    ax.set_yticks(at, names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_xlabel("average rank (1: best); a bar joins models that cannot be told apart")
    return figure


MOST_DRAWN = 8
"""Rows, beside the stack, that get figures of their own: with a dozen they would be nine tenths of the page."""


@dataclass(frozen=True)
class Sight:
    """All that sections draw from.

    Attributes:
        run: the stored run.
        events: its events, as far as they could be loaded again.
        pictures: takes the figures.
        average_ranks: pictures of average ranks, one per metric.
        models: the stored models, or None where none may be asked.
        all_rows: whether every row gets figures of its own.
        systematics: systematic shifts whose effect is shown.
        shift_events: file of labelled events that are shifted, instead of the run's own.
    """

    run: StoredReport
    events: Reloaded
    pictures: Pictures
    average_ranks: Sequence[RankPicture] = ()
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
