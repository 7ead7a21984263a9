"""A study: its search space, how its trials are scored, and its journal on disk."""

from __future__ import annotations

import json
import logging
import math
import os
import threading
import warnings
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.config.model import FeatureConfig, ModelConfig
from higgsbench.ensemble import Truth
from higgsbench.ensemble.blend import apply_recalibration, cross_fitted_recalibration, fit_recalibration
from higgsbench.errors import ConfigError, MissingExtraError, ModelError, StoreError
from higgsbench.features import feature_sets, resolve_features
from higgsbench.metrics.weights import evaluation_weights
from higgsbench.models import get_model
from higgsbench.tune import OBJECTIVES, TrialRecord
from higgsbench.validation import TRAINING_WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from higgsbench.config.load import LoadedConfig
    from higgsbench.config.model import RunConfig
    from higgsbench.runs.dataset import Dataset
    from higgsbench.runs.plan import Row
    from higgsbench.schema import TableSchema
    from higgsbench.tune import TuneSettings


WEIGHTS, FEATURES = "training_weights", "features"
"""Dimensions that are not parameters of the model."""


def configured(loaded: LoadedConfig, name: str) -> tuple[LoadedConfig, LoadedConfig]:
    """Return the configuration for a study of one registered model, and the configuration for a run with that model.

    If the configuration asks for both variants, the global one is tuned.

    Raises:
        ConfigError: if the model is neither in the configuration nor registered.
    """
    config = loaded.config
    named = [entry for entry in config.models if name in (entry.row_label, entry.model)]
    entry = min(named, key=lambda entry: entry.row_label != name, default=None)
    if entry is None:
        try:
            get_model(name)
        except ModelError as error:
            raise ConfigError(f"--model {name}: {error}") from error
        entry = ModelConfig(model=name)
    split = entry.jet_split or config.jet_split
    studied = entry.model_copy(update={"jet_split": "none" if split == "both" else split})
    given = loaded.changed(models=[entry], stack=config.stack.model_copy(update={"members": None}))
    return given.changed(models=[studied], repeats=1), given


def search_space(row: Row, vary: Sequence[str], schema: TableSchema) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a study's dimensions, and their values in the configuration, preset or library.

    A dimension that does not include this value is widened.

    Raises:
        ConfigError: if the model has no search space, `vary` names something that cannot be varied, or a configured
            value's type does not match its dimension.
    """
    from optuna.distributions import CategoricalDistribution

    space = {} if row.spec.search_space is None else dict(row.spec.search_space())
    for item in vary:
        name, _, text = item.partition("=")
        space[name] = CategoricalDistribution(_options(item, name, text, row, schema))
    if not space:
        raise ConfigError(
            f"model {row.spec.name!r} has no search space: give ModelSpec(search_space=...) or --vary {WEIGHTS}"
        )
    given = {**row.params, WEIGHTS: row.training_weights, FEATURES: row.choice.set}
    start = {name: given.get(name, row.spec.defaults.get(name)) for name in space}
    start = {name: value for name, value in start.items() if value is not None}
    try:
        return {name: _including(d, start[name]) if name in start else d for name, d in space.items()}, start
    except ModelError as error:
        raise ConfigError(f"model {row.label!r}: a study cannot start from its parameters: {error}") from error


def _options(item: str, name: str, text: str, row: Row, schema: TableSchema) -> list[str]:
    """Return the options of a `--vary` item; raises ConfigError for what cannot be varied."""
    known: dict[str, list[str]] = {WEIGHTS: list(TRAINING_WEIGHTS), FEATURES: []}
    for features in feature_sets():
        with suppress(ConfigError):  # a set may need columns that the events lack
            resolve_features(schema, name=features.name)
            known[FEATURES].append(features.name)
    options = [part.strip() for part in text.split(",")] if "=" in item else known.get(name, [])
    if name not in known:
        raise ConfigError(f"--vary {item}: only {' and '.join(known)} can vary, e.g. --vary {WEIGHTS}=balanced,none")
    lost = next((option for option in options if option not in known[name]), None)
    if lost is not None:
        raise ConfigError(f"--vary {item}: {lost!r} is not one of {', '.join(known[name])}")
    if name == WEIGHTS and not row.spec.sample_weight:
        raise ConfigError(f"--vary {item}: model {row.spec.name!r} does not take weights")
    if len(set(options)) < max(2, len(options)):
        raise ConfigError(f"--vary {item}: give two or more different values")
    return options


def _including(dimension: Any, value: Any) -> Any:
    """Return a distribution, widened if it does not include a value.

    Raises:
        ModelError: if the value has another type.
    """
    from optuna.distributions import CategoricalDistribution, IntDistribution

    if isinstance(dimension, CategoricalDistribution):
        choice = _as_choice(value)
        return dimension if choice in dimension.choices else CategoricalDistribution((*dimension.choices, choice))
    kinds = int if isinstance(dimension, IntDistribution) else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or (dimension.log and not value > 0):
        raise ModelError(f"search space: {value!r} cannot lie between {dimension.low} and {dimension.high}")
    low, high = min(dimension.low, value), max(dimension.high, value)
    steps = 0.0 if dimension.step is None else (value - dimension.low) / dimension.step
    if (low, high) == (dimension.low, dimension.high) and math.isclose(steps, round(steps), abs_tol=1e-6):
        return dimension
    return type(dimension)(low, high, log=dimension.log)


def _as_choice(value: Any) -> Any:
    """Return a value as Optuna takes it: a list as JSON text."""
    return json.dumps(value) if isinstance(value, (list, tuple)) else value


def with_values(loaded: LoadedConfig, values: dict[str, Any], **changes: Any) -> LoadedConfig:
    """Return the configuration of one model with the values of a trial and, if given, other settings."""
    (entry,) = loaded.config.models
    update = {name: value for name, value in values.items() if name in (WEIGHTS, FEATURES)}
    own = {name: value for name, value in values.items() if name not in update}
    if FEATURES in update:
        update[FEATURES] = FeatureConfig(set=update[FEATURES])
    update["params"] = get_model(entry.model).canonical(entry.params) | own
    return loaded.changed(models=[entry.model_copy(update=update)], **changes)


def on_scored_folds(
    score: NDArray[np.float64], row: Row, dataset: Dataset, config: RunConfig
) -> tuple[NDArray[np.float64], Truth]:
    """Keep the folds that have scores, recalibrate if the row asks for it, and rescale the weights.

    Takes a row's out-of-fold log-odds (n,) on the events of a dataset, NaN in folds without scores. Returns (1, m)
    scores and their truth, with the folds renumbered from 0.
    """
    there = ~np.isnan(score)
    y, f = dataset.y[there], score[there]
    weight = evaluation_weights(y, dataset.weight[there], *dataset.totals)
    fold = np.unique(dataset.fold[0][there], return_inverse=True)[1].astype(np.int64)
    if row.calibration == "logit":
        part = recalibration_part(row, dataset)[there]
        if fold.max() > 0:
            f, _ = cross_fitted_recalibration(f, y, weight, part, fold)
        else:  # a single fold's value is used only to stop trials early
            f = apply_recalibration(f, part, fit_recalibration(f, y, weight, part))
    truth = Truth(y, weight, fold[None, :], dataset.totals, config.cut.b_reg, config.cut.rule)
    return f[None, :], truth


def recalibration_part(row: Row, dataset: Dataset) -> NDArray[np.int64]:
    """Return the part (n,) in which each event is recalibrated: its jet group for split models, otherwise 0 for all."""
    if row.variant == "jets" and dataset.group is not None:
        return dataset.group
    return np.zeros(len(dataset.train), dtype=np.int64)


def fitted_recalibration(score: NDArray[np.float64], row: Row, dataset: Dataset) -> list[list[float]] | None:
    """Fit the recalibration that a row asks for on all its out-of-fold scores; None if it does not ask for one."""
    if row.calibration != "logit":
        return None
    part = recalibration_part(row, dataset)
    return [[*pair] for pair in fit_recalibration(score, dataset.y, dataset.weight, part).tolist()]


_STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
_PRUNE_AFTER = 5
_RANDOM_TRIALS = 10


def best_of(records: list[TrialRecord], objective: str) -> TrialRecord | None:
    """Return the best complete trial, the earliest if several are equal; None if there is none."""
    sign = 1.0 if OBJECTIVES[objective].lower_is_better else -1.0
    complete = [record for record in records if record.value is not None]
    return min(complete, key=lambda record: sign * (record.value or 0.0), default=None)


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Hide Optuna's log and its warnings about experimental features.

    Raises:
        MissingExtraError: if Optuna is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise MissingExtraError("higgsbench tune", "tune") from error
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


class Journal:
    """A study in Optuna's JSON-lines journal, with trials asked and told one by one; a stopped study can be continued.

    The seed of each trial's sampler depends on the number of trials before it. So with one trial at a time, a study
    proposes the same values whether or not it was interrupted.

    Args:
        file: the journal; created if there is none.
        space: dimensions of the study; `start`: values of the first trial, for any of them.
        seed: seed of the sampler.
        settings: their `objective` and `prune` are used.

    Raises:
        StoreError: if the file cannot be read or another process is using it.
    """

    def __init__(
        self, file: Path, space: Mapping[str, Any], start: dict[str, Any], seed: int, settings: TuneSettings
    ) -> None:
        import optuna
        import psutil
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        self.space, self.start, self.seed = space, start, seed
        # A killed process would leave Optuna's lock file behind; only one process writes a journal.
        lock: Any = threading.Lock()
        direction: Any = "minimize" if OBJECTIVES[settings.objective].lower_is_better else "maximize"
        median, never = optuna.pruners.MedianPruner(n_startup_trials=_PRUNE_AFTER), optuna.pruners.NopPruner()
        try:
            _cut_torn_line(file)
            storage = JournalStorage(JournalFileBackend(str(file), lock_obj=lock))
            self.study = optuna.create_study(
                storage=storage,
                study_name="tune",
                direction=direction,
                pruner=median if settings.prune else never,
                load_if_exists=True,
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(f"{file}: not a readable study journal ({error}); remove it to start again") from error
        # Ignore trials that a killed process left open.
        for trial in self.study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
            process = trial.user_attrs.get("process")
            if process != os.getpid() and isinstance(process, int) and psutil.pid_exists(process):
                raise StoreError(f"{file}: process {process} is working on this study; wait for it or end it")
            self.end(trial, "FAIL")

    def ask(self) -> tuple[Any, dict[str, Any]]:
        """Begin a trial; return it and its values."""
        import optuna

        done = len(self.records())
        self.study.sampler = optuna.samplers.TPESampler(
            seed=self.seed + done, n_startup_trials=_RANDOM_TRIALS, constant_liar=False
        )
        begun = (optuna.trial.TrialState.WAITING, optuna.trial.TrialState.RUNNING)
        if self.start and not done and not self.study.get_trials(deepcopy=False, states=begun):
            self.study.enqueue_trial({name: _as_choice(value) for name, value in self.start.items()})
        trial = self.study.ask(fixed_distributions=dict(self.space))
        trial.set_user_attr("process", os.getpid())
        drawn = {name: trial.params[name] for name in self.space}
        values = {n: json.loads(v) if isinstance(v, str) and v.startswith("[") else v for n, v in drawn.items()}
        trial.set_user_attr("values", values)
        return trial, values

    def behind(self, trial: Any, value: float, step: int) -> bool:
        """Record a trial's value after a fold; return whether to stop it."""
        trial.report(value, step)
        return bool(trial.should_prune())

    def end(self, trial: Any, state: str, value: float | None = None, **about: Any) -> None:
        """End a trial as COMPLETE, PRUNED or FAIL; a failed trial without an error is ignored.

        `about` holds its seconds, error and calibration, if there are any.
        """
        import optuna

        for name, given in about.items():
            trial.set_user_attr(name, given)
        self.study.tell(trial.number, value, state=optuna.trial.TrialState[state])

    def records(self) -> list[TrialRecord]:
        """Return the finished trials in order."""
        out = []
        for trial in self.study.get_trials(deepcopy=False):
            about = trial.user_attrs
            state = _STATES.get(trial.state.name)
            if state is None or (state == "failed" and "error" not in about):
                continue
            value = trial.value if state == "complete" else None
            known = {name: about[name] for name in ("values", "seconds", "error", "calibration") if name in about}
            out.append(TrialRecord(trial.number, state, value, **known))
        return out

    def importances(self) -> dict[str, float]:
        """Return how much of the objective's scatter each dimension explains, largest first; empty with few trials."""
        import optuna

        if sum(record.state == "complete" for record in self.records()) < 4:
            return {}
        try:
            evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
            found = optuna.importance.get_param_importances(self.study, evaluator=evaluator)
        except (RuntimeError, ValueError):  # no scatter to explain
            return {}
        return {str(name): float(value) for name, value in found.items()}


def _cut_torn_line(file: Path) -> None:
    """Cut off a last line that a killed process left unfinished."""
    content = file.read_bytes() if file.exists() else b""
    whole = content.rfind(b"\n") + 1
    if whole != len(content):
        with file.open("rb+") as stream:
            stream.truncate(whole)
