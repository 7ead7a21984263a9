"""The stored models of a run: scores of new events, bit for bit as in the run, and scores of the run's own events.

`predictor.json` describes what is needed beside the fitted models. It names no file, module or function: units by their
digest, models and features by their names in the configuration. Nothing in a run is executed.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench import __version__
from higgsbench.ensemble.blend import Blend, apply_recalibration
from higgsbench.errors import ConfigError, HiggsbenchWarning, ModelError, StoreError
from higgsbench.features import Features, feature_matrix
from higgsbench.files import file_digest, parse_json, told_plainly
from higgsbench.models import get_model, registered_models
from higgsbench.runs.artifacts import PREDICTOR_FORMAT, PredictorFile, RowEntry
from higgsbench.runs.plan import chosen_features
from higgsbench.runs.store import RunStore
from higgsbench.runs.stored import PREDICTOR
from higgsbench.runs.unit import block_scores, mean_log_odds, with_group
from higgsbench.validation import group_index

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import polars as pl
    from numpy.typing import NDArray

    from higgsbench.models import ModelSpec
    from higgsbench.runs.stored import StoredRun
    from higgsbench.schema import TableSchema
    from higgsbench.validation.physical import JetSplitClassifier, PhysicalClassifier


@dataclass(frozen=True)
class FittedRow:
    """A trained row: what `predictor.json` says, and its fitted meta-estimators, the refit or those of all folds."""

    entry: RowEntry
    features: Features
    models: tuple[Any, ...]

    def inputs(self, X: NDArray[np.float32], numbers: NDArray[np.int64] | None) -> NDArray[np.float32]:
        """Return features (n, p), with the group numbers (n,) as a further column where the models need them."""
        return with_group(X, None if self.entry.groups is None else numbers)

    def calibrated(self, score: NDArray[np.float64], numbers: NDArray[np.int64] | None) -> NDArray[np.float64]:
        """Return log-odds (n,) as recalibrated for new events; unchanged where the row is not recalibrated."""
        if self.entry.calibration is None:
            return score
        part = np.zeros(score.size, dtype=np.int64)
        if self.entry.groups is not None and numbers is not None:
            part = group_index(numbers, self.entry.groups)
        return apply_recalibration(score, part, np.array(self.entry.calibration, dtype=np.float64))

    def of_fold(self, position: int) -> FittedRow:
        """Return the row as it scores the events of a fold, which has a position among those of all repeats."""
        each = self.entry.fold_calibrations
        entry = self.entry.model_copy(update={"calibration": None if each is None else each[position]})
        return replace(self, entry=entry, models=(self.models[position],))


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
        return self.blended(self.row_scores(frame), frame.height)

    def row_scores(self, frame: pl.DataFrame) -> list[NDArray[np.float64]]:
        """Return the scores (n,) of each row; events and errors as for `scores`."""
        numbers = group_numbers(frame, self.schema)
        features = {row.features.digest: row.features for row in self.rows}
        matrices = {digest: feature_matrix(frame, choice) for digest, choice in features.items()}
        columns = []
        for row in self.rows:
            inputs = row.inputs(matrices[row.features.digest], numbers)
            score = mean_log_odds([block_scores(model, inputs) for model in row.models])
            columns.append(row.calibrated(score, numbers))
        return columns

    def blended(self, columns: Sequence[NDArray[np.float64]], events: int) -> NDArray[np.float64]:
        """Combine the scores (n,) of the rows into those of the predictor."""
        if self.blend is None:
            return columns[0]
        return self.blend(np.column_stack(columns) if columns else np.empty((events, 0)))


def group_numbers(frame: pl.DataFrame, schema: TableSchema) -> NDArray[np.int64] | None:
    """Return the group number (n,) of each event, or None where the layout has no groups."""
    return None if schema.group is None else frame[schema.group].to_numpy().astype(np.int64)


class FittedRun:
    """The models of a finished run, read on first use.

    Methods take the name of a row, training events (n,) as a frame with missing values as null, and their numbers (n,).
    All but `blended` raise a HiggsbenchError if the run has no such row, or its models are not stored or unusable here.

    Args:
        run: the run.
    """

    def __init__(self, run: StoredRun) -> None:
        self.run = run
        self.store = RunStore(run.folder)

    @cached_property
    def content(self) -> PredictorFile:
        """The content of `predictor.json`."""
        return self.run.read(PREDICTOR, self._parse)

    def _parse(self, content: bytes) -> PredictorFile:
        form = parse_json(content)["format"]
        if form != PREDICTOR_FORMAT:
            raise self._of_version(f"{self.run.folder / PREDICTOR}: format {form!r} instead of {PREDICTOR_FORMAT}")
        return PredictorFile.model_validate_json(content)

    @cached_property
    def schema(self) -> TableSchema:
        """Layout of the events."""
        folds = self.content.folds
        return self.content.data.table_schema(None if folds is None else folds.by)

    def _blend(self, *, all_members: bool = False) -> Blend | None:
        """Return the run's stack, None if it has none; members of weight zero need not be computed."""
        stack = self.run.stack
        if stack is None:
            return None
        used = {member.name: member.weight for member in stack.members if all_members or member.weight != 0.0}
        weights = np.array(list(used.values()), dtype=np.float64)
        return Blend(stack.method, tuple(used), weights, stack.intercept, stack.prior)

    def held_out(self, name: str | None = None, *, all_members: bool = False) -> Predictor:
        """Return the scorer of events that no model was trained on.

        Args:
            name: row to use, by its name or its model's label; the stack when None, or the only row.
            all_members: whether to also compute members of the stack with zero weight.
        """
        blend = self._blend(all_members=all_members) if name in (None, "stack") else None
        if blend is not None:
            entries = [self._entry(member) for member in blend.members]
            title, threshold = "stack", self.run.row("stack").cut.threshold
        else:
            rows = self.content.rows
            entries = [row for row in rows if row.name == name] or [row for row in rows if name in (None, row.label)]
            if len(entries) != 1:
                have = ", ".join([*(["stack"] if self.run.stack is not None else []), *(row.name for row in rows)])
                if name in (None, "stack"):
                    raise ConfigError(f"{self.run.folder}: the run has no stack; choose a row with --model: {have}")
                many = "several rows" if entries else "no row"
                raise ConfigError(f"--model {name}: {many} of that name; use {have}")
            title, threshold, blend = entries[0].name, entries[0].threshold, None
        return Predictor(title, self.schema, threshold, self.content.threads, tuple(map(self._row, entries)), blend)

    def of_folds(self, whole: Predictor) -> tuple[Predictor, ...]:
        """Return the scorers of each fold's events, with the models that did not see them, repeat by repeat.

        They are made from `whole`, a scorer of new events. The result is empty if a refit scores new events, or if an
        earlier version made the run.
        """
        folds, rows = self.content.folds, {row.entry.name: row for row in whole.rows}
        if folds is None:
            return ()
        places = range(folds.repeats * folds.number)
        if whole.blend is None:
            return tuple(replace(whole, rows=tuple(row.of_fold(at) for row in rows.values())) for at in places)
        used = {name for entry in folds.blends for name, weight in entry.coefficients.items() if weight != 0.0}
        members = [entry.name for entry in self.content.rows if entry.name in used or entry.name in rows]
        fitted = [rows.get(name) or self._row(self._entry(name)) for name in members]
        out = []
        for at, entry in enumerate(folds.blends):
            weights = np.array([entry.coefficients.get(name, 0.0) for name in members])
            blend = replace(whole.blend, members=tuple(members), coefficients=weights, intercept=entry.intercept)
            out.append(replace(whole, rows=tuple(row.of_fold(at) for row in fitted), blend=blend))
        return tuple(out)

    def in_sample(self, name: str, frame: pl.DataFrame, event_id: NDArray[np.int64]) -> NDArray[np.float64]:
        """Score training events by the models that saw them: the mean over all fold models except the event's own.

        Returns log-odds (n,) in physical normalisation, recalibrated as new events are.
        """
        row = self._row(self._entry(name))
        numbers = group_numbers(frame, self.schema)
        inputs = row.inputs(feature_matrix(frame, row.features), numbers)
        total, seen = np.zeros(frame.height), np.zeros(frame.height, dtype=np.int64)
        for model, others in zip(row.models, self._held_out_events(row.entry), strict=True):
            rows = ~np.isin(event_id, others)
            total[rows] += block_scores(model, inputs[rows])
            seen += rows
        if not seen.all():
            raise StoreError(f"{self.run.folder}: {name!r} has no model that was trained on some of the events")
        return row.calibrated(total / seen, numbers)

    def blended(self, scores: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64] | None:
        """Blend members' scores (n,) as the run's stack does; None if the run has no stack, or a member is missing."""
        blend = self._blend()
        if blend is None or not blend.members or not set(blend.members) <= set(scores):
            return None
        return blend(np.column_stack([scores[member] for member in blend.members]))

    def unseen(self, name: str, event_id: NDArray[np.int64]) -> Callable[[pl.DataFrame], NDArray[np.float64]]:
        """Return a function that scores training events, maybe with changed values, by the first model new to each."""
        entry = self._entry(name)
        judge = self._judges(entry, event_id)
        if (judge < 0).any():
            raise StoreError(
                f"{self.run.folder}: the stored models of {name!r} have seen all training events "
                "(test_prediction: refit)"
            )
        row = self._row(entry)

        def scores(frame: pl.DataFrame) -> NDArray[np.float64]:
            numbers = group_numbers(frame, self.schema)
            inputs = row.inputs(feature_matrix(frame, row.features), numbers)
            out = np.empty(frame.height)
            for index in np.unique(judge):
                out[judge == index] = block_scores(row.models[index], inputs[judge == index])
            return row.calibrated(out, numbers)

        return scores

    def contributions(
        self, name: str, frame: pl.DataFrame, event_id: NDArray[np.int64]
    ) -> tuple[tuple[str, ...], NDArray[np.float64], NDArray[np.float64]]:
        """Split the log-odds of boosted trees into what each feature adds (TreeSHAP, the library's own).

        Each event is scored by a fold model that did not see it, if there is one, otherwise by the refit.

        Returns:
            Names of the p features, their values (n, p) with NaN where missing, and what they add to the log-odds
            (n, p), before any recalibration.
        """
        row = self._row(self._entry(name))
        X = feature_matrix(frame, row.features)
        inputs = row.inputs(X, group_numbers(frame, self.schema))
        judge = np.maximum(self._judges(row.entry, event_id), 0)
        parts = np.zeros(X.shape)
        for index in np.unique(judge):
            found = tree_contributions(row.models[index], inputs[judge == index])
            parts[judge == index] = found[:, : X.shape[1]]
        return row.features.columns, X.astype(np.float64), parts

    def _judges(self, entry: RowEntry, event_id: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the position of the first model that did not see each event (n,); -1 where all models saw it."""
        judge = np.full(event_id.size, -1)
        for index, others in enumerate(self._held_out_events(entry)):
            judge[(judge < 0) & np.isin(event_id, others)] = index
        return judge

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
            advice = "" if ":" in entry.model else "; give the file that registers it with --import"
            raise ModelError(f"{self.run.folder}: {entry.name!r}: {error}{advice}") from error
        spec.check_available()
        if spec.code != entry.code:
            text = f"{self.run.folder}: the code of {entry.model!r} has changed since the run; its scores may differ"
            warnings.warn(text, HiggsbenchWarning, stacklevel=2)
        models = tuple(self._model(key, spec) for key in entry.units)
        wanted = len(features.columns) + (entry.groups is not None)
        if any(getattr(model, "n_features_in_", None) != wanted for model in models):
            raise StoreError(f"{self.run.folder}: the models of {entry.name!r} do not fit its features and groups")
        return FittedRow(entry, features, models)

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
            raise StoreError(
                f"{self.run.folder}: model {spec.name!r} was not stored: {model.reason}; or name a row without it"
            )
        with told_plainly(StoreError, file, "read"):
            damaged = file.is_symlink() or file_digest(file) != model.checksum
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
    the libraries compute them, for features (n, p) as in the training, the group number last where it is split.

    Returns:
        (n, p + 1): what each feature adds, and last the remainder; the sum of a row is its
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
    for submodel, rows, columns in estimator.parts(X):
        out[np.ix_(rows, [*columns, X.shape[1]])] = tree_contributions(submodel, X[np.ix_(rows, columns)])
    return out


def _of_trees(trees: Any, X: NDArray[Any]) -> NDArray[np.float64]:
    """Ask the model that stores these trees, whichever model they were trained for."""
    for spec in registered_models():
        if spec.contributions is not None and any(codec.handles(trees) for codec in spec.codecs):
            return np.asarray(spec.contributions(trees, X), dtype=np.float64)
    known = ", ".join(spec.name for spec in registered_models() if spec.contributions is not None)
    raise ModelError(f"{type(trees).__name__} is not a boosted-tree model whose library has TreeSHAP ({known})")
