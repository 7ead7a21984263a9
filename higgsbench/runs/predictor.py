"""The stored models of a run: scores of new events, bit for bit as in the run, and scores of the run's own events.

`predictor.json` describes what is needed beside the fitted models. It names no file, module or function: units by their
digest, models and features by their names in the configuration. Nothing in a run is executed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench import __version__
from higgsbench.ensemble.blend import apply_recalibration
from higgsbench.errors import ConfigError, ModelError, StoreError
from higgsbench.features import Features, feature_matrix
from higgsbench.files import file_digest, parse_json
from higgsbench.models import get_model, registered_models
from higgsbench.runs.artifacts import PREDICTOR_FORMAT, PredictorFile, RowEntry, StackEntry
from higgsbench.runs.plan import chosen_features
from higgsbench.runs.store import RunStore
from higgsbench.runs.stored import PREDICTOR
from higgsbench.runs.unit import block_scores, mean_log_odds, with_group
from higgsbench.validation.folds import group_index

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import polars as pl
    from numpy.typing import NDArray

    from higgsbench.ensemble.blend import Blend
    from higgsbench.models import ModelSpec
    from higgsbench.runs.stored import StoredRun
    from higgsbench.schema import TableSchema
    from higgsbench.validation.physical import JetSplitClassifier, PhysicalClassifier


@dataclass(frozen=True)
class FittedRow:
    """A trained row.

    Attributes:
        entry: the row as described in `predictor.json`.
        spec: its model.
        features: what its models see.
        calibration: slope and intercept per group, or None.
        models: fitted meta-estimators, the refit or those of all folds.
    """

    entry: RowEntry
    spec: ModelSpec
    features: Features
    calibration: NDArray[np.float64] | None
    models: tuple[Any, ...]

    def split(self, numbers: NDArray[np.int64] | None) -> NDArray[np.int64] | None:
        """Return the group numbers (n,) that its models need as a further column, or None."""
        return numbers if self.entry.groups is not None else None

    def scores(self, X: NDArray[np.float32], numbers: NDArray[np.int64] | None) -> NDArray[np.float64]:
        """Return the recalibrated mean log-odds (n,) of the models for features (n, p) and group numbers (n,)."""
        split = self.split(numbers)
        return self.calibrated(mean_log_odds([block_scores(model, X, split) for model in self.models]), numbers)

    def calibrated(self, score: NDArray[np.float64], numbers: NDArray[np.int64] | None) -> NDArray[np.float64]:
        """Return log-odds (n,) as recalibrated for new events; unchanged where the row is not recalibrated."""
        if self.calibration is None:
            return score
        part = np.zeros(score.size, dtype=np.int64)
        if self.entry.groups is not None and numbers is not None:
            part = group_index(numbers, self.entry.groups)
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
            ConfigError: if an event belongs to no jet group.
        """
        numbers = group_numbers(frame, self.schema)
        matrices: dict[str, NDArray[np.float32]] = {}
        columns = []
        for row in self.rows:
            if row.features.digest not in matrices:
                matrices[row.features.digest] = feature_matrix(frame, row.features)
            columns.append(row.scores(matrices[row.features.digest], numbers))
        if self.blend is None:
            return columns[0]
        return self.blend(np.column_stack(columns) if columns else np.empty((frame.height, 0)))


@dataclass(frozen=True)
class UnseenScorer:
    """Scores the run's own events, each by a fold model that did not see it.

    Attributes:
        name: the row.
        row: its models.
        model: (n,) the model that judges each event.
        schema: layout of the events.
    """

    name: str
    row: FittedRow
    model: NDArray[np.int64]
    schema: TableSchema

    def scores(self, frame: pl.DataFrame) -> NDArray[np.float64]:
        """Return log-odds (n,) of the events in the order in which they were named, perhaps with changed values."""
        X, numbers = feature_matrix(frame, self.row.features), group_numbers(frame, self.schema)
        split = self.row.split(numbers)
        out = np.empty(frame.height)
        for index, model in enumerate(self.row.models):
            rows = self.model == index
            if rows.any():
                out[rows] = block_scores(model, X[rows], None if split is None else split[rows])
        return self.row.calibrated(out, numbers)


def group_numbers(frame: pl.DataFrame, schema: TableSchema) -> NDArray[np.int64] | None:
    """Return the group number (n,) of each event, or None where the layout has no groups."""
    return None if schema.group is None else frame[schema.group].to_numpy().astype(np.int64)


def open_predictor(run: StoredRun, name: str | None = None) -> Predictor:
    """Read what a run needs to score new events.

    Args:
        run: the run.
        name: row to take, by its name or its model's label; the stack when None, or the only row.

    Raises:
        ConfigError: if there is no such row.
        ModelError: if a model of the run is not registered here.
        StoreError: if the models are not stored, or a file is damaged or refused.
    """
    return FittedRun(run).held_out(name)


class FittedRun:
    """The models of a finished run, read when they are asked for.

    Every method except `blended` raises a HiggsbenchError if the run has no such row, or its models are not stored or
    cannot be used here.

    Args:
        run: the run.
    """

    def __init__(self, run: StoredRun) -> None:
        self.run = run
        self.store = RunStore(run.folder)

    @cached_property
    def content(self) -> PredictorFile:
        """The content of `predictor.json`."""
        found = self.run.read(PREDICTOR, self._parse)
        names, blend = [row.name for row in found.rows], found.stack
        members = [] if blend is None else blend.members
        distinct = len(set(names)) == len(names) and len(set(members)) == len(members)
        if not distinct or not {*members} <= {*names} or (blend and len(blend.coefficients) != len(members)):
            raise StoreError(f"{self.run.folder / PREDICTOR}: damaged: its rows and stack do not fit together")
        return found

    def _parse(self, content: bytes) -> PredictorFile:
        form = parse_json(content)["format"]
        if form != PREDICTOR_FORMAT:
            raise self._of_version(f"{self.run.folder / PREDICTOR}: format {form!r} instead of {PREDICTOR_FORMAT}")
        return PredictorFile.model_validate_json(content)

    @cached_property
    def schema(self) -> TableSchema:
        """Layout of the events."""
        return self.content.data.table_schema()

    def held_out(self, name: str | None = None) -> Predictor:
        """Return the scorer of events that no model was trained on; arguments as for `open_predictor`."""
        wanted = self._chosen(name)
        blend = wanted.blend() if isinstance(wanted, StackEntry) else None
        names = (wanted.name,) if isinstance(wanted, RowEntry) else wanted.blend().members
        rows = tuple(self._row(self._entry(member)) for member in names)
        title = "stack" if blend is not None else names[0]
        return Predictor(title, self.schema, wanted.threshold, self.content.threads, rows, blend)

    def in_sample(self, name: str, frame: pl.DataFrame, event_id: NDArray[np.int64]) -> NDArray[np.float64]:
        """Score training events by the models that saw them: the mean over all fold models except the event's own.

        Args:
            name: the row.
            frame: (n,) training events, missing values as null.
            event_id: (n,) their numbers.

        Returns:
            (n,) log-odds in physical normalisation, recalibrated as new events are.
        """
        row = self._row(self._entry(name))
        X, numbers = feature_matrix(frame, row.features), group_numbers(frame, self.schema)
        split = row.split(numbers)
        total, seen = np.zeros(frame.height), np.zeros(frame.height, dtype=np.int64)
        for model, others in zip(row.models, self._held_out_events(row.entry), strict=True):
            rows = ~np.isin(event_id, others)
            total[rows] += block_scores(model, X[rows], None if split is None else split[rows])
            seen += rows
        if not seen.all():
            raise StoreError(f"{self.run.folder}: {name!r} has no model that was trained on some of the events")
        return row.calibrated(total / seen, numbers)

    def blended(self, scores: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64] | None:
        """Blend members' scores (n,) as the run's stack does; None where there is no stack, or a member is missing."""
        if self.content.stack is None:
            return None
        blend = self.content.stack.blend()
        if not blend.members or not set(blend.members) <= set(scores):
            return None
        return blend(np.column_stack([scores[member] for member in blend.members]))

    def unseen(self, name: str, event_id: NDArray[np.int64]) -> UnseenScorer:
        """Return a scorer of training events (n,), each by the first fold model that did not see it."""
        entry = self._entry(name)
        model = np.full(event_id.size, -1)
        for index, others in enumerate(self._held_out_events(entry)):
            model[(model < 0) & np.isin(event_id, others)] = index
        if (model < 0).any():
            raise StoreError(
                f"{self.run.folder}: the stored models of {name!r} have seen all training events "
                "(test_prediction: refit)"
            )
        return UnseenScorer(name, self._row(entry), model, self.schema)

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
        """
        row = self._row(self._entry(name))
        X = feature_matrix(frame, row.features)
        inputs = with_group(X, row.split(group_numbers(frame, self.schema)))
        parts = np.zeros(X.shape)
        done = np.zeros(frame.height, dtype=np.bool_)
        for model, others in zip(row.models, self._held_out_events(row.entry), strict=True):
            rows = ~done & (np.isin(event_id, others) if others.size else True)
            if rows.any():
                parts[rows] = tree_contributions(model, inputs[rows])[:, : X.shape[1]]
            done |= rows
        return row.features.columns, X.astype(np.float64), parts

    def _chosen(self, name: str | None) -> RowEntry | StackEntry:
        """Return the row asked for, or the stack."""
        rows, stack = self.content.rows, self.content.stack
        if name in (None, "stack") and stack is not None:
            return stack
        if name is None and len(rows) == 1:
            return rows[0]
        have = ", ".join([*(["stack"] if stack is not None else []), *(row.name for row in rows)])
        if name in (None, "stack"):
            raise ConfigError(f"{self.run.folder}: the run has no stack; choose a row with --model: {have}")
        found = [row for row in rows if row.name == name] or [row for row in rows if row.label == name]
        if len(found) != 1:
            raise ConfigError(f"--model {name}: {'several rows' if found else 'no row'} of that name; there are {have}")
        return found[0]

    def _entry(self, name: str) -> RowEntry:
        entry = next((row for row in self.content.rows if row.name == name), None)
        if entry is None:
            raise ConfigError(f"{self.run.folder}: no trained row {name!r}")
        return entry

    def _held_out_events(self, entry: RowEntry) -> Iterable[NDArray[np.int64]]:
        """Return the training events that each model of a row did not see."""
        for key in entry.units:
            unit = self.store.read(key)
            if unit is None:
                raise StoreError(f"{self.run.folder}: unit {key} is missing or damaged; run the configuration again")
            yield unit.event_id

    def _row(self, entry: RowEntry) -> FittedRow:
        """Read the models of a row."""
        features = chosen_features(entry.features, self.schema)
        if features.digest != entry.feature_digest:
            raise self._of_version(
                f"{self.run.folder}: the features of {entry.name!r} are not those its models were trained with: this "
                "version of higgsbench or Polars defines them differently"
            )
        try:
            spec = get_model(entry.model)
        except ModelError as error:
            raise ModelError(f"{self.run.folder}: {entry.name!r}: {error}") from error
        spec.check_available()
        calibration = None if entry.calibration is None else np.array(entry.calibration, dtype=np.float64)
        models = tuple(self._model(key, spec) for key in entry.units)
        wanted = len(features.columns) + (entry.groups is not None)
        if (
            any(getattr(model, "n_features_in_", None) != wanted for model in models)
            or (entry.groups is not None and self.schema.group is None)
            or (calibration is not None and calibration.shape[0] != len(entry.groups or [0]))
        ):
            raise StoreError(f"{self.run.folder}: the models of {entry.name!r} do not fit its features and groups")
        return FittedRow(entry, spec, features, calibration, models)

    def _model(self, key: str, spec: ModelSpec) -> Any:
        """Read the model of a unit; its bytes are compared with the marker of the unit first."""
        from higgsbench.models.storage import read_model
        from higgsbench.validation.physical import unit_codecs

        file, model = self.store.model_file(key), self.store.stored_model(key)
        if model is None:
            raise StoreError(
                f"{self.run.folder}: the fitted models are not stored; run the same configuration again with "
                "`store_models: true`"
            )
        if model.checksum is None:
            raise StoreError(f"{self.run.folder}: model {spec.name!r} was not stored: {model.reason}")
        try:
            damaged = file.is_symlink() or file_digest(file) != model.checksum
        except OSError as error:
            raise StoreError(f"{file}: cannot be read: {error.strerror or error}") from error
        if damaged:
            raise StoreError(f"{file}: damaged: its checksum is not the one in {key}.json; run the configuration again")
        try:
            return read_model(file, unit_codecs(spec), self.content.threads)
        except StoreError as error:
            raise self._of_version(str(error)) from error

    def _of_version(self, problem: str) -> StoreError:
        """Return the error of a file that another version of higgsbench may have written."""
        version = self.run.version
        if version in ("", __version__):
            return StoreError(f"{problem}; run the configuration again")
        return StoreError(
            f"{problem}; higgsbench {version} wrote the run and this is {__version__}: run its configuration again"
        )


def tree_contributions(estimator: PhysicalClassifier | JetSplitClassifier, X: NDArray[Any]) -> NDArray[np.float64]:
    """Split the log-odds of a fitted meta-estimator around boosted trees into what each feature adds.

    These are exact Shapley values of a tree ensemble (Lundberg et al., Nature Machine Intelligence 2 (2020) 56), as
    the libraries compute them.

    Args:
        estimator: the meta-estimator.
        X: (n, p) features as it was trained on, the group number last where it is split.

    Returns:
        (n, p + 1): what each feature adds, and last what is left without any; the sum of a row is its
        `decision_function`.

    Raises:
        ModelError: if the model is not made of boosted trees whose library has TreeSHAP.
    """
    from higgsbench.models.estimators import SeedBag, unwrapped
    from higgsbench.validation.physical import PhysicalClassifier

    if isinstance(estimator, PhysicalClassifier):
        inner = estimator.estimator_
        members = inner.estimators_ if isinstance(inner, SeedBag) else [inner]
        out = np.asarray(np.mean([_of_trees(unwrapped(member), X) for member in members], axis=0))
        out[:, -1] += estimator.prior_shift_
        return out
    out = np.zeros((X.shape[0], X.shape[1] + 1))
    member = group_index(X[:, estimator.group_column].astype(np.int64), estimator.groups)
    for position, (submodel, columns) in enumerate(zip(estimator.submodels_, estimator.columns_, strict=True)):
        rows = np.flatnonzero(member == position)
        if rows.size:
            out[np.ix_(rows, [*columns, X.shape[1]])] = tree_contributions(submodel, X[np.ix_(rows, columns)])
    return out


def _of_trees(trees: Any, X: NDArray[Any]) -> NDArray[np.float64]:
    """Ask the model that stores these trees, whichever model they were trained for."""
    for spec in registered_models():
        if spec.contributions is not None and any(codec.handles(trees) for codec in spec.codecs):
            return np.asarray(spec.contributions(trees, X), dtype=np.float64)
    known = ", ".join(spec.name for spec in registered_models() if spec.contributions is not None)
    raise ModelError(f"{type(trees).__name__} is not a boosted-tree model whose library has TreeSHAP ({known})")
