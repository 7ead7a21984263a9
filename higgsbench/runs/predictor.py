"""The stored models of a run: its description in `predictor.json`, and scores of new events and of the run's own."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import polars as pl
from pydantic import Field, ValidationError

from higgsbench.config.model import DataConfig, FeatureConfig, Number, Strict
from higgsbench.ensemble.blend import Blend, apply_recalibration
from higgsbench.errors import ConfigError, ModelError, StoreError
from higgsbench.features import Features, feature_matrix
from higgsbench.files import ROWS, no_panic, read_sealed, read_vouched
from higgsbench.models import get_model
from higgsbench.runs.models import load_unit_model
from higgsbench.runs.plan import chosen_features
from higgsbench.runs.store import RunStore
from higgsbench.runs.stored import PREDICTOR, PREDICTOR_FORMAT
from higgsbench.runs.unit import block_scores, mean_log_odds, with_group
from higgsbench.validation.folds import group_index

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import polars as pl
    from numpy.typing import NDArray

    from higgsbench.schema import TableSchema

__all__ = [
    "PREDICTOR",
    "FittedRow",
    "FittedRun",
    "Predictor",
    "PredictorFile",
    "RowEntry",
    "StackEntry",
    "UnseenScorer",
    "open_predictor",
    "open_row",
    "read_content",
    "read_predictor",
    "training_events",
    "used_blend",
]


Key = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class RowEntry(Strict):
    """One trained row.

    Attributes:
        name: unique name within the run.
        label: name of the model in the configuration.
        model: name in the registry.
        features: choice of features as configured.
        feature_digest: identity of what that choice meant when the models were trained.
        groups: jet groups of a split model, or None.
        calibration: slope and intercept per group, or None.
        threshold: the frozen cut.
        units: digests of the fits whose mean scores new events.
    """

    name: str
    label: str
    model: str
    features: FeatureConfig
    feature_digest: str
    groups: list[list[int]] | None
    calibration: list[Annotated[list[Number], Field(min_length=2, max_length=2)]] | None
    threshold: Number
    units: Annotated[list[Key], Field(min_length=1)]


class StackEntry(Strict):
    """The blend: members by name of their row."""

    method: str
    members: list[str]
    coefficients: list[Number]
    intercept: Number
    prior: Number
    threshold: Number


class PredictorFile(Strict):
    """The whole file; `data` carries the layout of the events only."""

    format: int
    data: DataConfig
    threads: Annotated[int, Field(ge=1, le=1024)]
    rows: Annotated[list[RowEntry], Field(min_length=1)]
    stack: StackEntry | None


def read_predictor(file: Path, content: bytes) -> PredictorFile:
    """Validate the content of a `predictor.json`.

    Args:
        file: its name for messages.
        content: its bytes.

    Raises:
        StoreError: naming the file and the key at fault.
    """
    try:
        found = PredictorFile.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        at = ".".join(str(part) for part in first["loc"])
        raise StoreError(
            f"{file}: damaged or not made by higgsbench: {at + ': ' if at else ''}{first['msg']}"
        ) from error
    if found.format != PREDICTOR_FORMAT:
        raise StoreError(f"{file}: format {found.format}, this version of higgsbench reads {PREDICTOR_FORMAT}")
    names = [row.name for row in found.rows]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise StoreError(f"{file}: two rows are named {repeated!r}")
    blend = found.stack
    if blend is not None and not (
        len(blend.coefficients) == len(blend.members) == len(set(blend.members)) and set(blend.members) <= set(names)
    ):
        raise StoreError(f"{file}: the stack does not fit the rows")
    return found


@dataclass(frozen=True)
class FittedRow:
    """A trained row.

    Attributes:
        name: its name.
        features: what its models see.
        groups: jet groups of a split model, or None.
        calibration: slope and intercept per group, or None.
        models: fitted meta-estimators, the refit or those of all folds.
    """

    name: str
    features: Features
    groups: tuple[tuple[int, ...], ...] | None
    calibration: NDArray[np.float64] | None
    models: tuple[Any, ...]

    def scores(self, X: NDArray[np.float32], numbers: NDArray[np.int64] | None) -> NDArray[np.float64]:
        """Return the recalibrated mean log-odds (n,) of the models for features (n, p) and group numbers (n,)."""
        split = numbers if self.groups is not None else None
        return self.calibrated(mean_log_odds([block_scores(model, X, split) for model in self.models]), numbers)

    def calibrated(self, score: NDArray[np.float64], numbers: NDArray[np.int64] | None) -> NDArray[np.float64]:
        """Return log-odds (n,) as recalibrated for new events; as they are where the row is not recalibrated."""
        if self.calibration is None:
            return score
        if self.groups is None or numbers is None:
            part = np.zeros(score.size, dtype=np.int64)
        else:
            part = group_index(numbers, self.groups)
        return apply_recalibration(score, part, self.calibration)


@dataclass(frozen=True)
class Predictor:
    """Scores new events as a run scored its held-out ones, bit for bit.

    Attributes:
        name: the row whose scores these are.
        schema: layout of the events.
        threshold: the frozen cut: events with score >= threshold are selected.
        threads: threads that each model may use.
        rows: trained rows that are needed.
        blend: how they are put together, or None for a single row.
    """

    name: str
    schema: TableSchema
    threshold: float
    threads: int
    rows: tuple[FittedRow, ...]
    blend: Blend | None

    def scores(self, frame: pl.DataFrame) -> NDArray[np.float64]:
        """Return log-odds in physical normalisation, shape (n,), of checked events with missing values as null.

        Raises:
            ConfigError: if an event stands in no jet group.
        """
        group = self.schema.group
        numbers = None if group is None else frame[group].to_numpy().astype(np.int64)
        matrices: dict[str, NDArray[np.float32]] = {}
        columns = []
        for row in self.rows:
            if row.features.digest not in matrices:
                matrices[row.features.digest] = feature_matrix(frame, row.features)
            columns.append(row.scores(matrices[row.features.digest], numbers))
        if self.blend is None:
            return columns[0]
        return self.blend(np.column_stack(columns) if columns else np.empty((frame.height, 0)))


def open_predictor(folder: Path, name: str | None = None) -> Predictor:
    """Read what a run needs to score new events. The run may come from somebody else: nothing in it is executed.

    Args:
        folder: the run's folder.
        name: row to take, by its name or its model's label; the stack when None, or the only row.

    Raises:
        ConfigError: if there is no such row.
        ModelError: if a model of the run is not registered here.
        StoreError: if the folder is no finished run, or a file in it is damaged or refused.
    """
    store = RunStore(folder)
    content = read_content(store)
    wanted = _chosen(content, name, folder)
    blend, threshold = None, wanted.threshold if wanted is not None else 0.0
    entries = [wanted] if wanted is not None else []
    if wanted is None and content.stack is not None:
        blend, threshold = used_blend(content), content.stack.threshold
        by_name = {row.name: row for row in content.rows}
        entries = [by_name[member] for member in blend.members]
    schema = content.data.table_schema()
    rows = tuple(open_row(store, entry, schema, content.threads) for entry in entries)
    return Predictor("stack" if wanted is None else wanted.name, schema, threshold, content.threads, rows, blend)


def read_content(store: RunStore) -> PredictorFile:
    """Read the description of a run's predictor.

    Raises:
        StoreError: if the folder is no finished run, or the description is damaged.
    """
    folder = store.folder
    if not folder.is_dir():
        raise StoreError(f"{folder}: no such run; `higgsbench run` prints where it stores one")
    for path in (folder / "rows.json", folder / PREDICTOR, store.units):
        if path.is_symlink():
            raise StoreError(f"{path}: a link; the files of a run stand in its own folder")
    if not (folder / PREDICTOR).is_file() or not (folder / "rows.json").is_file():
        raise StoreError(f"{folder}: no finished run that can predict: no {PREDICTOR}; run its configuration again")
    try:
        if PREDICTOR not in read_sealed(folder / ROWS)["checksums"]:
            raise KeyError(PREDICTOR)
        return read_predictor(folder / PREDICTOR, read_vouched(folder, PREDICTOR))
    except OSError as error:
        raise StoreError(f"{folder}: cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{folder / 'rows.json'}: damaged or not made by higgsbench") from error


def _chosen(content: PredictorFile, name: str | None, folder: Path) -> RowEntry | None:
    """Return the row asked for; None means the stack."""
    names = [row.name for row in content.rows]
    have = ", ".join([*(["stack"] if content.stack is not None else []), *names])
    if name is None or name == "stack":
        if content.stack is not None:
            return None
        if name is None and len(names) == 1:
            return content.rows[0]
        raise ConfigError(f"{folder}: the run has no stack; choose a row with --model: {have}")
    found = [row for row in content.rows if row.name == name]
    found = found or [row for row in content.rows if row.label == name]
    if len(found) != 1:
        raise ConfigError(f"--model {name}: {'several rows' if found else 'no row'} of that name; there are {have}")
    return found[0]


def used_blend(content: PredictorFile) -> Blend:
    """Return the blend without the members of weight zero, which need not be computed."""
    stack = content.stack
    assert stack is not None  # noqa: S101  (the caller has seen it; this tells the type checker)
    used = [i for i, coefficient in enumerate(stack.coefficients) if coefficient != 0.0]
    return Blend(
        stack.method,
        tuple(stack.members[i] for i in used),
        np.array([stack.coefficients[i] for i in used], dtype=np.float64),
        stack.intercept,
        stack.prior,
    )


def open_row(store: RunStore, entry: RowEntry, schema: TableSchema, threads: int) -> FittedRow:
    """Read the models of a row.

    Args:
        store: the run's files.
        entry: the row as described in `predictor.json`.
        schema: layout of the events.
        threads: threads that each model may use.

    Raises:
        ModelError: if the model is not registered here, or its library is absent.
        StoreError: if the models are not stored, damaged or refused, or do not fit the row.
    """
    features = chosen_features(entry.features, schema)
    if features.digest != entry.feature_digest:
        raise StoreError(
            f"{store.folder}: the features of {entry.name!r} are not those its models were trained with: this version "
            "of higgsbench or Polars defines them differently; run the configuration again"
        )
    try:
        spec = get_model(entry.model)
    except ModelError as error:
        raise ModelError(f"{store.folder}: {entry.name!r}: {error}") from error
    spec.check_available()
    groups = None if entry.groups is None else tuple(tuple(group) for group in entry.groups)
    if groups is not None and schema.group is None:
        raise StoreError(f"{store.folder}: {entry.name!r} is split by groups, which the layout {schema.name} lacks")
    calibration = None if entry.calibration is None else np.array(entry.calibration, dtype=np.float64)
    if calibration is not None and calibration.shape[0] != (1 if groups is None else len(groups)):
        raise StoreError(f"{store.folder}: the recalibration of {entry.name!r} does not fit its groups")
    models = tuple(load_unit_model(store, key, spec, threads) for key in entry.units)
    wanted = len(features.columns) + (groups is not None)
    if any(getattr(model, "n_features_in_", None) != wanted for model in models):
        raise StoreError(f"{store.folder}: the models of {entry.name!r} were not trained on its features")
    return FittedRow(entry.name, features, groups, calibration, models)


def training_events(run: Path, schema: TableSchema) -> pl.Series | None:
    """Return the numbers of the events that a run was trained on.

    There are none where the layout numbers the rows of each file anew; None where the run's scores are gone.

    Raises:
        StoreError: if its scores are damaged.
    """
    if schema.event_id is None:
        return pl.Series("EventId", [], dtype=pl.Int64)
    try:
        with no_panic():
            frame = pl.read_parquet(io.BytesIO(read_vouched(run, "scores.parquet")), columns=["EventId"])
    except (OSError, pl.exceptions.PolarsError):
        return None
    return frame["EventId"].unique()


@dataclass(frozen=True)
class UnseenScorer:
    """Scores the run's own events, each by a fold model that did not see it.

    Attributes:
        name: the row.
        row: its models.
        model: (n,) which of them judges each event.
        group: column with the group number, or None.
    """

    name: str
    row: FittedRow
    model: NDArray[np.int64]
    group: str | None

    def scores(self, frame: pl.DataFrame) -> NDArray[np.float64]:
        """Return log-odds (n,) of the events in the order they were named in, perhaps with columns exchanged."""
        X, numbers = _matrix(self.row, frame, self.group)
        split = numbers if self.row.groups is not None else None
        out = np.empty(frame.height)
        for index, model in enumerate(self.row.models):
            rows = self.model == index
            if rows.any():
                out[rows] = block_scores(model, X[rows], None if split is None else split[rows])
        return self.row.calibrated(out, numbers)


class FittedRun:
    """The models of a finished run; read from disk when they are asked for. Nothing in the files is executed.

    Args:
        folder: the run's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.store = RunStore(folder)

    @cached_property
    def _content(self) -> PredictorFile:
        return read_content(self.store)

    @cached_property
    def _schema(self) -> TableSchema:
        return self._content.data.table_schema()

    def in_sample(self, name: str, frame: pl.DataFrame, event_id: NDArray[np.int64]) -> NDArray[np.float64]:
        """Score training events by the models that saw them: the mean over all fold models but the event's own.

        Args:
            name: the row.
            frame: (n,) training events, missing values as null.
            event_id: (n,) their numbers.

        Returns:
            (n,) log-odds in physical normalisation, recalibrated as new events are.

        Raises:
            HiggsbenchError: if the run has no such row, or its models are not stored or cannot be used here.
        """
        row, left_out = self._row(name)
        X, numbers = _matrix(row, frame, self._schema.group)
        split = numbers if row.groups is not None else None
        total, seen = np.zeros(frame.height), np.zeros(frame.height, dtype=np.int64)
        for model, others in zip(row.models, left_out, strict=True):
            rows = ~np.isin(event_id, others)
            total[rows] += block_scores(model, X[rows], None if split is None else split[rows])
            seen += rows
        if not seen.all():
            raise StoreError(f"{self.store.folder}: {name!r} has no model that was trained on some of the events")
        return row.calibrated(total / seen, numbers)

    def blended(self, scores: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64] | None:
        """Blend members' scores (n,) as the run's stack does; None where there is no stack, or a member is missing."""
        if self._content.stack is None:
            return None
        blend = used_blend(self._content)
        if not blend.members or not set(blend.members) <= set(scores):
            return None
        return blend(np.column_stack([scores[member] for member in blend.members]))

    def unseen(self, name: str, event_id: NDArray[np.int64]) -> UnseenScorer:
        """Return a scorer of training events, each by the first fold model that did not see it.

        Raises:
            HiggsbenchError: as `in_sample`, or if every stored model has seen the events (a refit).
        """
        row, left_out = self._row(name)
        model = np.full(event_id.size, -1)
        for index, others in enumerate(left_out):
            model[(model < 0) & np.isin(event_id, others)] = index
        if (model < 0).any():
            raise StoreError(
                f"{self.store.folder}: the stored models of {name!r} have seen all training events "
                "(test_prediction: refit)"
            )
        return UnseenScorer(name, row, model, self._schema.group)

    def held_out(self, name: str) -> Predictor:
        """Return the scorer of held-out events.

        Raises:
            HiggsbenchError: as `in_sample`.
        """
        return open_predictor(self.store.folder, name)

    def contributions(
        self, name: str, frame: pl.DataFrame, event_id: NDArray[np.int64]
    ) -> tuple[tuple[str, ...], NDArray[np.float64], NDArray[np.float64]]:
        """Split the log-odds of boosted trees into what each feature adds (TreeSHAP, the library's own).

        Each event is judged by a fold model that did not see it where there is one, otherwise by the refit.

        Args:
            name: the row.
            frame: (n,) training events, missing values as null.
            event_id: (n,) their numbers.

        Returns:
            Names of the p features, their values (n, p) with NaN where missing, and what they add to the log-odds
            (n, p), before any recalibration.

        Raises:
            ModelError: if the model is not made of boosted trees whose library has TreeSHAP.
            HiggsbenchError: as `in_sample`.
        """
        from higgsbench.runs.attributions import tree_contributions

        row, left_out = self._row(name)
        X, numbers = _matrix(row, frame, self._schema.group)
        inputs = with_group(X, numbers if row.groups is not None else None)
        parts = np.zeros(X.shape)
        done = np.zeros(frame.height, dtype=np.bool_)
        for model, others in zip(row.models, left_out, strict=True):
            rows = ~done & (np.isin(event_id, others) if others.size else True)
            if rows.any():
                parts[rows] = tree_contributions(model, inputs[rows])[:, : X.shape[1]]
            done |= rows
        return row.features.columns, X.astype(np.float64), parts

    def _row(self, name: str) -> tuple[FittedRow, list[NDArray[np.int64]]]:
        """Return a row's models and, for each, the training events that it did not see."""
        entry = next((row for row in self._content.rows if row.name == name), None)
        if entry is None:
            raise ConfigError(f"{self.store.folder}: no trained row {name!r}")
        row = open_row(self.store, entry, self._schema, self._content.threads)
        left_out = []
        for key in entry.units:
            unit = self.store.read(key)
            if unit is None:
                raise StoreError(f"{self.store.folder}: unit {key} is gone or damaged; run the configuration again")
            left_out.append(unit.event_id)
        return row, left_out


def _matrix(
    row: FittedRow, frame: pl.DataFrame, group: str | None
) -> tuple[NDArray[np.float32], NDArray[np.int64] | None]:
    numbers = None if group is None else frame[group].to_numpy().astype(np.int64)
    return feature_matrix(frame, row.features), numbers
