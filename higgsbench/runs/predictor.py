"""A finished run as a predictor: its stored models, recalibrations and blend applied to new events."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from higgsbench.ensemble.blend import Blend
from higgsbench.ensemble.calibration import apply_recalibration
from higgsbench.errors import ConfigError, ModelError, StoreError
from higgsbench.features import Features, feature_matrix
from higgsbench.models import get_model
from higgsbench.panics import no_panic
from higgsbench.runs.blocks import block_scores, mean_log_odds
from higgsbench.runs.models import load_unit_model
from higgsbench.runs.plan import chosen_features
from higgsbench.runs.predictor_file import PREDICTOR, PredictorFile, RowEntry, read_predictor
from higgsbench.runs.store import RunStore
from higgsbench.sealed import ROWS, read_sealed, read_vouched
from higgsbench.validation.folds import group_index

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from higgsbench.schema import TableSchema

__all__ = [
    "FittedRow",
    "Predictor",
    "open_predictor",
    "open_row",
    "read_content",
    "training_events",
    "used_blend",
]


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
