"""A stored run: the only reader of what `higgsbench run` leaves in a folder. Importing it loads no training library."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import polars as pl

from higgsbench import __version__
from higgsbench.errors import ConfigError, StoreError, nearest_hint
from higgsbench.files import ROWS, canonical_digest, no_panic, parse_json, read_sealed, read_vouched, told_plainly
from higgsbench.metrics import ProcessMetrics, process_names, processes_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from higgsbench.ensemble import Replicas
    from higgsbench.ensemble.cut import Truth
    from higgsbench.metrics import Processes

SCORES, TEST_SCORES, REPLICAS = "scores.parquet", "test_scores.parquet", "replicas.parquet"
STACK, CONFIG, ENVIRONMENT, PREDICTOR = "stack.json", "config.yaml", "environment.json", "predictor.json"

T = TypeVar("T")

_PREFIX, _PROCESS, _SPECTATOR = "score:", "process", "spectator:"
_AGAIN = "run the configuration again to rewrite it"
_TEXTS = ("name", "label", "variant", "status", "digest")
_NUMBERS = ("ams_cv", "ams_cv_se", "auc", "auc_se", "log_loss", "fraction", "s", "b")
_COLUMNS = {"EventId": pl.Int64, "signal": pl.Boolean, "weight": pl.Float64, "repeat": pl.Int32, "fold": pl.Int32}


class FrozenCut(NamedTuple):
    """The cut that selects new events, score >= threshold, and the rule that chose it."""

    rule: str
    threshold: float


class StackMember(NamedTuple):
    """A member of the blend: its weight, and that of the blenders of single folds."""

    name: str
    weight: float
    weight_mean_over_folds: float
    weight_sd_over_folds: float


class Stack(NamedTuple):
    """The blend of a run."""

    method: str
    intercept: float
    prior: float
    members: tuple[StackMember, ...]


@dataclass(frozen=True)
class StoredRow:
    """A row of a stored run, with all that rows.json says about it, in full precision; metrics under their names."""

    run: StoredRun = field(repr=False)
    record: dict[str, Any] = field(hash=False)

    @property
    def name(self) -> str:
        """Unique name of the row within its run."""
        return str(self.record["name"])

    @property
    def label(self) -> str:
        """Name of the model in the configuration; several rows may share it."""
        return str(self.record["label"])

    @property
    def ok(self) -> bool:
        """Whether the row has numbers."""
        return bool(self.record["status"] == "ok")

    @property
    def scores(self) -> NDArray[np.float64]:
        """Out-of-fold log-odds (repeats, n) in the order of `StoredRun.event_id`."""
        return self.run.score_table[self.name]

    @property
    def cut(self) -> FrozenCut:
        """The frozen cut."""
        from higgsbench.ensemble.cut import CUT_RULES

        rule, threshold = self.record.get("cut_rule"), self.record.get("threshold")
        if rule not in CUT_RULES or type(threshold) not in (int, float):
            raise StoreError(
                f"{self.run.folder / ROWS}: row {self.name!r} has no cut whose cut_rule is one of "
                f"{', '.join(CUT_RULES)}, but {str(rule)[:60]!r}"
            )
        return FrozenCut(str(rule), float(threshold or 0.0))

    @property
    def truth(self) -> Truth:
        """What the row is evaluated with: labels, evaluation weights, folds, totals and its cut rule."""
        from higgsbench.ensemble.cut import Truth

        run = self.run
        return Truth(run.y, run.weight, run.fold, run.totals, run.b_reg, self.cut.rule, run.processes, run.spectators)

    @property
    def processes(self) -> dict[str, ProcessMetrics]:
        """Each process in the selection, by name; empty if the processes are not known."""
        return {name: ProcessMetrics.from_record(self.record, name) for name in process_names(self.record)}

    def replicas(self) -> Replicas | None:
        """Bootstrap replicas of the row, or None where the file is missing or damaged."""
        from higgsbench.ensemble import Replicas

        table = self.run.replica_table
        if table is None:
            return None
        own = [table[name] for name in table.columns if name.partition(":")[2] == self.name]
        return Replicas.from_columns(self.name, {c.name: c.to_numpy() for c in own if not c.null_count()})


class StoredRun:
    """A finished run as stored. It may come from someone else: nothing in it is executed.

    Files are read on first use; a StoreError names one that is missing or damaged.

    Args:
        folder: the run's folder.

    Attributes:
        folder, name: the run's folder and its name.
        rows: all rows in stored order, failed ones too.
        comparability: what a row must share with another one to be ranked against it; `group` is its digest.
        repeats: how often the cross-validation was repeated.
        source: name of the events, for titles.
        notes: what a reader of the run should know; a note is added for each damaged file that is read.

    Raises:
        StoreError: if the run is unfinished, damaged, or of a version that this one cannot read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = folder.name
        self.notes: list[str] = []
        content = self._read_rows()
        self.rows = tuple(StoredRow(self, record) for record in content["rows"])
        self.comparability: dict[str, Any] = content["comparability"]
        self.group = canonical_digest(self.comparability)
        self.repeats = int(self.comparability.get("repeats", 1))
        self.source = str(content.get("source", ""))
        self.checksums = _of(dict, content.get("checksums"))
        left_out = [str(row.get("name", "")) for row in _of(list, content.get("left_out")) if isinstance(row, dict)]
        if left_out:
            self.notes.append(f"{self.name}: a time limit left out {', '.join(left_out)}")

    def __repr__(self) -> str:
        """Name the folder and the number of rows."""
        return f"<StoredRun {self.folder}: {len(self.rows)} rows>"

    def _read_rows(self) -> dict[str, Any]:
        file = self.folder / ROWS
        if not file.is_file():
            what = "not a run; `higgsbench run` prints where it stores one"
            if (self.folder / "units").is_dir():
                what = f"unfinished ({stored_units(self.folder)} units stored); run its configuration again to continue"
            raise StoreError(f"{self.folder}: {what}")
        with told_plainly(StoreError, file, "read"):
            content: dict[str, Any] = read_sealed(file)
        problem, version = _problem(content), self.version
        if not problem:
            return content
        if version in ("", __version__):
            raise StoreError(f"{file}: damaged or not made by higgsbench ({problem})")
        raise StoreError(
            f"{self.folder}: written by higgsbench {version}, which this version ({__version__}) cannot read "
            f"({problem}); run its configuration again"
        )

    @property
    def version(self) -> str:
        """Version of higgsbench that wrote the run; empty if unknown."""
        try:
            found = str(parse_json((self.folder / ENVIRONMENT).read_bytes())["higgsbench"])
        except (OSError, ValueError, RecursionError, KeyError, TypeError):
            return ""
        return found[:40] if found.isprintable() else ""

    @property
    def totals(self) -> tuple[float, float]:
        """Reference totals (N_s, N_b)."""
        return self._shared("n_s"), self._shared("n_b")

    @property
    def b_reg(self) -> float:
        """Regularisation of the background in the AMS."""
        return self._shared("b_reg")

    def _shared(self, key: str) -> float:
        if key not in self.comparability:
            raise StoreError(f"{self.folder / ROWS}: no number {key} in the comparability; {_AGAIN}")
        return float(self.comparability[key])

    def row(self, name: str) -> StoredRow:
        """Return the row of that name, or the first of that label; see `scored_rows`."""
        return self.scored_rows([name])[0]

    def scored_rows(self, models: Sequence[str] = ()) -> list[StoredRow]:
        """Return rows with numbers: all, or those of some names or labels, each once; a `ConfigError` for others."""
        if not models:
            return [row for row in self.rows if row.ok]
        found: dict[str, StoredRow] = {}
        for model in models:
            named = [row for row in self.rows if row.name == model] or [row for row in self.rows if row.label == model]
            if not named:
                known = [row.name for row in self.rows]
                hint = nearest_hint(model, known, f" (choose from {', '.join(known)})")
                raise ConfigError(f"{self.name}: no model {model!r}{hint}")
            if not all(row.ok for row in named):
                raise ConfigError(f"{self.name}: model {model!r} failed and has no scores")
            found |= {row.name: row for row in named}
        return list(found.values())

    def _table(self, name: str, kinds: Mapping[str, Any]) -> pl.DataFrame:
        """Read a table that has these columns, and scores that are finite numbers."""
        frame, path = self.read(name, pl.read_parquet), self.folder / name
        others: dict[str, Any] = {column: pl.Float64 for column in frame.columns if column.startswith(_PREFIX)}
        others |= {_PROCESS: pl.String} if _PROCESS in frame.columns else {}
        others |= {column: pl.Float32 for column in frame.columns if column.startswith(_SPECTATOR)}  # NaN where missing
        for column, kind in {**kinds, **others}.items():
            if column not in frame.columns or frame[column].dtype != kind or frame[column].null_count():
                raise StoreError(f"{path}: no complete column {column!r} of type {kind}; {_AGAIN}")
            if kind == pl.Float64 and not frame[column].is_finite().all():
                raise StoreError(f"{path}: column {column!r} holds values that are not finite numbers; {_AGAIN}")
        return frame

    @cached_property
    def _scores(self) -> pl.DataFrame:
        rows = {_PREFIX + row.name: pl.Float64 for row in self.rows if row.ok}
        frame, path = self._table(SCORES, _COLUMNS | rows), self.folder / SCORES
        events = self.comparability["events"]
        if frame.height != events * self.repeats:
            raise StoreError(f"{path}: {frame.height} rows instead of {events} events x {self.repeats} repeats")
        y = frame["signal"].head(events)
        if y.all() or not y.any():
            raise StoreError(f"{path}: events of one class only; {_AGAIN}")
        return frame

    @cached_property
    def event_id(self) -> NDArray[np.int64]:
        """Numbers (n,) of the cross-validated events, in the order of their file."""
        return np.asarray(self._events("EventId")[0], dtype=np.int64)

    @cached_property
    def by_event(self) -> NDArray[np.intp]:
        """Positions (n,) that put the events into the order of their numbers."""
        return np.argsort(self.event_id, kind="stable")

    @cached_property
    def y(self) -> NDArray[np.bool_]:
        """Truth (n,) of the cross-validated events, True for signal."""
        return np.asarray(self._events("signal")[0], dtype=np.bool_)

    @cached_property
    def weight(self) -> NDArray[np.float64]:
        """Evaluation weights (n,) of the cross-validated events at the reference totals."""
        return np.asarray(self._events("weight")[0], dtype=np.float64)

    @cached_property
    def fold(self) -> NDArray[np.int64]:
        """Fold numbers (repeats, n)."""
        return self._events("fold").astype(np.int64)

    @cached_property
    def processes(self) -> Processes | None:
        """Physics process of each cross-validated event, or None if it is not known."""
        names = self._scores[_PROCESS].head(self.y.size) if _PROCESS in self._scores.columns else None
        return processes_of(names, self.y, self.weight)

    @cached_property
    def spectators(self) -> dict[str, NDArray[np.float64]]:
        """Values (n,) of the spectators of the cross-validated events, NaN where missing, by name."""
        columns = [column for column in self._scores.columns if column.startswith(_SPECTATOR)]
        return {c.removeprefix(_SPECTATOR): self._events(c)[0].astype(np.float64) for c in columns}

    def _events(self, column: str) -> NDArray[Any]:
        return self._scores[column].to_numpy().reshape(self.repeats, -1)

    @cached_property
    def score_table(self) -> Mapping[str, NDArray[np.float64]]:
        """Out-of-fold log-odds (repeats, n) by name of the row."""
        return {row.name: self._events(_PREFIX + row.name) for row in self.rows if row.ok}

    @cached_property
    def _test(self) -> dict[str, NDArray[Any]]:
        known = TEST_SCORES in self.checksums or (self.folder / TEST_SCORES).exists()
        table = self._table(TEST_SCORES, {"EventId": pl.Int64}) if known else pl.DataFrame()
        return {column.name.removeprefix(_PREFIX): column.to_numpy() for column in table}

    @property
    def test_event_id(self) -> NDArray[np.int64] | None:
        """Numbers (m,) of the held-out events, or None where there are none."""
        return self._test.get("EventId")

    @property
    def test_score_table(self) -> Mapping[str, NDArray[np.float64]]:
        """Log-odds (m,) of the held-out events by name of the row; their truth is not stored."""
        return {name: values for name, values in self._test.items() if name != "EventId"}

    @cached_property
    def replica_table(self) -> pl.DataFrame | None:
        """Bootstrap replicas of all rows; None, with a note, where they are missing or damaged."""
        if REPLICAS not in self.checksums and not (self.folder / REPLICAS).exists():
            return None  # runs of earlier versions
        try:
            return self.read(REPLICAS, pl.read_parquet)
        except StoreError:
            self.notes.append(f"{self.name}: {REPLICAS} is missing or damaged: differences have no errors; {_AGAIN}")
            return None

    @cached_property
    def stack(self) -> Stack | None:
        """The blend, or None where the run has none."""
        return self.read(STACK, _parse_stack)

    @property
    def configuration(self) -> str:
        """Text of the resolved configuration (YAML), which can be run again unchanged."""
        return self.read(CONFIG, bytes.decode)

    @cached_property
    def environment(self) -> dict[str, Any]:
        """Versions and hardware that the run was computed with."""
        return self.read(ENVIRONMENT, lambda content: dict(parse_json(content)))

    def read(self, name: str, parse: Callable[[bytes], T]) -> T:
        """Return what `parse` makes of a file whose bytes have the checksum in rows.json; otherwise a `StoreError`."""
        path = self.folder / name
        if not path.is_file():
            raise StoreError(f"{path}: missing; {_AGAIN}")
        try:
            with told_plainly(StoreError, path, "read"), no_panic():
                return parse(read_vouched(self.folder, name))
        except (ValueError, KeyError, TypeError, RecursionError, pl.exceptions.PolarsError) as error:
            raise StoreError(f"{path}: damaged or not made by higgsbench; {_AGAIN}") from error


def _parse_stack(content: bytes) -> Stack | None:
    found = parse_json(content)
    if found is None:
        return None
    members = tuple(
        StackMember(str(member["name"]), *(float(member[key]) for key in StackMember._fields[1:]))
        for member in found["members"]
    )
    return Stack(str(found["method"]), float(found["intercept"]), float(found["prior"]), members)


def _problem(content: Any) -> str:
    """Say why the content of rows.json cannot be used; empty if it can."""
    rows, shared = (content.get(key) if isinstance(content, dict) else None for key in ("rows", "comparability"))
    if not isinstance(rows, list) or not isinstance(shared, dict):
        return "no list of rows or no comparability"
    for value in shared.values():
        if not isinstance(value, (str, int, float, NoneType)) or (isinstance(value, float) and not np.isfinite(value)):
            return "a comparability with values other than text and finite numbers"
    counts = [shared.get("events"), shared.get("test_events", 0), shared.get("repeats", 1)]
    if not all(type(count) is int and count >= 0 for count in counts):
        return "no number of events"
    for key in ("n_s", "n_b", "b_reg"):
        if type(shared.get(key, 0.0)) not in (int, float) or not 0.0 <= shared.get(key, 0.0) < np.inf:
            return f"its {key} is not a number of events"
    for record in rows:
        if not isinstance(record, dict) or any(not isinstance(record.get(key), str) for key in _TEXTS):
            return f"a row without {', '.join(_TEXTS)}"
        numbers = _NUMBERS if record["status"] == "ok" else ()
        lacking = any(type(record.get(key)) not in (int, float) for key in numbers)
        if lacking or not isinstance(record.get("params", {}), dict):
            return f"row {record['name']!r} lacks a number"
        try:
            _ = [ProcessMetrics.from_record(record, name) for name in process_names(record)]
        except (KeyError, TypeError, ValueError):
            return f"row {record['name']!r} lacks a number of a process"
    return ""


def _of(kind: type[T], value: Any) -> T:
    return value if isinstance(value, kind) else kind()


def stored_units(folder: Path) -> int:
    """Return how many finished units a run's folder holds."""
    return sum(1 for _ in (folder / "units").glob("[!.]*.json"))
