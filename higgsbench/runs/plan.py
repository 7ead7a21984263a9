"""The plan of a run: rows, work units with the digests that identify them, and checks before the first fit."""

from __future__ import annotations

import hashlib
import inspect
import json
import marshal
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.config.model import FeatureConfig
from higgsbench.errors import ConfigError, ModelError
from higgsbench.features import resolve_features
from higgsbench.files import canonical_digest
from higgsbench.models import get_model
from higgsbench.models.building import RefusedParameterError, on_device, probe_parameters
from higgsbench.runs.environment import package_version
from higgsbench.runs.unit import REFIT, Unit
from higgsbench.validation.folds import PROPORTIONAL

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from higgsbench.config import LoadedConfig, ModelConfig, RunConfig
    from higgsbench.features import Features
    from higgsbench.models import ModelSpec, Preset
    from higgsbench.runs.dataset import Dataset
    from higgsbench.schema import TableSchema

UNIT_FORMAT = 5
"""Incremented whenever the same inputs would give different scores or files; older units are then never reused."""

DEFAULT_FEATURES, DEFAULT_WEIGHTS = "raw", "balanced"
"""The defaults where neither the configuration nor the preset makes a choice."""

FEW = 20
"""Events of a class in a fold below which its numbers say little: the relative error of a count is then above 20%."""


@dataclass(frozen=True)
class Row:
    """One leaderboard row that comes from training: a model in one variant.

    Attributes:
        label: name in tables.
        variant: `global` or `jets`.
        spec: the model.
        params: parameters with the preset resolved.
        preset: preset they came from.
        training_weights: scheme, `none` where the model takes no weights.
        calibration: `prior` or `logit`.
        choice: the choice of features as configured or preset.
        features: what the model sees.
        from_disk: whether it is trained from a matrix on disk, because memory is short.
        device_note: why it is trained on the processor although another device was asked for, otherwise empty.
    """

    label: str
    variant: str
    spec: ModelSpec
    params: dict[str, Any]
    preset: str
    training_weights: str
    calibration: str
    choice: FeatureConfig
    features: Features
    from_disk: bool = False
    device_note: str = ""

    @property
    def name(self) -> str:
        """Unique name of the row within its run."""
        return self.label if self.variant == "global" else f"{self.label} [{self.variant}]"


@dataclass(frozen=True)
class Plan:
    """All rows and units of a run.

    Attributes:
        config: the run's configuration.
        dataset: the run's events.
        rows: rows that are trained.
        units: their units.
        refused: rows that cannot be trained on these events, each with the reason.
    """

    config: RunConfig
    dataset: Dataset
    rows: tuple[Row, ...]
    units: tuple[Unit, ...]
    refused: tuple[tuple[Row, str], ...] = ()

    def units_of(self, row: int) -> list[Unit]:
        """Return the units of one row, refit last."""
        return sorted((u for u in self.units if u.row == row), key=lambda u: (u.fold == REFIT, u.repeat, u.fold))

    def predictors_of(self, row: int) -> list[Unit]:
        """Return the units whose models score new events: the refit where there is one, otherwise all folds."""
        units = self.units_of(row)
        return [u for u in units if u.fold == REFIT] or units


def make_plan(loaded: LoadedConfig, dataset: Dataset, from_disk: Collection[str] = ()) -> Plan:
    """Resolve a configuration against the registry and the events.

    Args:
        loaded: validated configuration.
        dataset: the run's events.
        from_disk: names of the rows that are trained from disk.

    Raises:
        ConfigError: for choices that do not go together, with file, line and key, or if no row can be trained.
    """
    config = loaded.config
    wanted: list[Row] = []
    for index, entry in enumerate(config.models):
        try:
            wanted += _rows_of(loaded, entry, dataset)
        except (ModelError, ConfigError) as error:
            raise loaded.error(("models", index), str(error)) from error
    problem = _split_problem(dataset) if any(row.variant == "jets" for row in wanted) else ""
    refused = tuple((row, problem) for row in wanted if problem and row.variant == "jets")
    rows = tuple(
        replace(row, from_disk=row.name in from_disk) for row in wanted if not problem or row.variant != "jets"
    )
    if not rows:
        raise ConfigError(f"no row can be trained: {problem}")
    units = [unit for position, row in enumerate(rows) for unit in _units_of(position, row, config, dataset)]
    return Plan(config, dataset, rows, tuple(units), refused)


def _split_problem(dataset: Dataset) -> str:
    """Say which jet group lacks training events of a class, in all folds or in one; empty if none does."""
    if dataset.group is None:
        return ""
    y, weight, group = dataset.y, dataset.weight, dataset.group
    for index, numbers in enumerate(dataset.groups):
        for name, members in (("signal", y), ("background", ~y)):
            inside = members & (group == index)
            for repeat, fold in enumerate(dataset.fold):
                sums = np.bincount(fold[inside], weights=weight[inside], minlength=int(fold.max()) + 1)
                left = [float(np.sum(np.delete(sums, held_out))) for held_out in range(sums.size)]
                if min(left) > 0.0:
                    continue
                where = f" without fold {int(np.argmin(left))} of repeat {repeat}" if max(left) > 0.0 else ""
                return (
                    f"jet_groups: group {list(numbers)} has no {name} events of positive total weight{where}; "
                    "join it with another group"
                )
    return ""


def _rows_of(loaded: LoadedConfig, entry: ModelConfig, dataset: Dataset) -> list[Row]:
    config = loaded.config
    spec = get_model(entry.model)
    spec.check_available()
    spec.check_parameters(entry.params)
    preset = entry.preset or config.preset
    settings = spec.preset(preset)
    choice = entry.features or config.features or _of_preset(settings, dataset.train.schema)
    features = chosen_features(choice, dataset.train.schema)
    wanted = entry.training_weights or config.training_weights or settings.training_weights or DEFAULT_WEIGHTS
    weights = wanted if spec.sample_weight else "none"
    calibration = entry.calibration or config.calibration
    if calibration == "auto":
        calibration = "prior" if weights in PROPORTIONAL else "logit"
    split = entry.jet_split or config.jet_split
    if split != "none" and dataset.group is None:
        raise ConfigError(
            f"jet_split: {split!r} needs a group column, which the layout {dataset.train.schema.name} lacks"
        )
    variants = {"none": ("global",), "groups": ("jets",), "both": ("global", "jets")}[split]
    params, note = on_device(spec, {**settings.params, **spec.canonical(entry.params)}, config.device)
    return [
        Row(entry.row_label, v, spec, params, preset, weights, calibration, choice, features, device_note=note)
        for v in variants
    ]


def _of_preset(settings: Preset, schema: TableSchema) -> FeatureConfig:
    """Return the preset's features, or the raw columns where the layout lacks what the set needs."""
    choice = FeatureConfig(set=settings.features or DEFAULT_FEATURES)
    try:
        chosen_features(choice, schema)
    except ConfigError:
        return FeatureConfig(set=DEFAULT_FEATURES)
    return choice


def chosen_features(choice: FeatureConfig, schema: TableSchema) -> Features:
    """Turn the `features` of a configuration, or of a stored run, into expressions.

    Raises:
        ConfigError: for a set or column that does not exist.
    """
    return resolve_features(
        schema,
        name=choice.set,
        columns=None if choice.columns is None else [entry.choice for entry in choice.columns],
        add=[entry.choice for entry in choice.add],
        drop=choice.drop,
    )


def _code_digest(function: Callable[..., Any] | None) -> str:
    if function is None:
        return ""
    try:
        return hashlib.sha256(inspect.getsource(function).encode()).hexdigest()
    except (OSError, TypeError):
        code = getattr(function, "__code__", None)
        return hashlib.sha256(marshal.dumps(code)).hexdigest() if code is not None else repr(type(function))


def _units_of(position: int, row: Row, config: RunConfig, dataset: Dataset) -> list[Unit]:
    """Return the units of a row: one per fold and repeat, and the refit where the configuration asks for it."""
    shared: dict[str, Any] = {
        "row": position,
        "spec": row.spec,
        "params": row.params,
        "columns": row.features.columns,
        "matrix": f"X-{row.features.digest}",
        "groups": dataset.groups if row.variant == "jets" else None,
        "training_weights": row.training_weights,
        "negative_weights": config.data.negative_weights,
        "totals": dataset.totals,
        "threads": config.threads,
        "from_disk": row.from_disk,
    }
    code = (row.spec.build, row.spec.log_odds, row.spec.from_disk if row.from_disk else None)
    # All that determines a row's scores, apart from the fold.
    identity = {name: value for name, value in shared.items() if name not in ("row", "spec")} | {
        "format": UNIT_FORMAT,
        "data": dataset.train.digest,
        "model": row.spec.name,
        "code": [_code_digest(function) for function in code],
        "missing": row.spec.missing,
        "versions": {name: package_version(name) or "none" for name in {*row.spec.requires, "numpy", "scikit-learn"}},
    }
    try:
        canonical_digest(identity)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"model {row.label!r}: parameters must be plain values: {error}") from error
    test = None if dataset.test is None else dataset.test.digest
    refit = config.test_prediction == "refit" and (test is not None or config.store_models)
    places = [(repeat, fold) for repeat in range(config.repeats) for fold in range(config.folds)]
    units = []
    for repeat, fold in [*places, (0, REFIT)] if refit else places:
        seed = config.seed + (0 if fold == REFIT else 1000 * repeat + fold)
        scored = test if fold == REFIT or not refit else None
        place = {"seed": seed, "fold": None if fold == REFIT else [repeat, fold, dataset.fold_digest], "test": scored}
        units.append(
            Unit(
                key=canonical_digest({**identity, **place})[:32],
                name=f"{row.name}, {'refit' if fold == REFIT else f'fold {fold}'}, repeat {repeat}",
                repeat=repeat,
                fold=fold,
                seed=seed,
                test_matrix=None if scored is None else f"T-{row.features.digest}",
                **shared,
            )
        )
    return units


def check_members(plan: Plan) -> None:
    """Check `stack.members` against the plan, before anything is trained.

    Raises:
        ConfigError: if a member is not in the run.
    """
    rows = [*plan.rows, *(row for row, _ in plan.refused)]
    known = {row.label for row in rows} | {row.name for row in rows}
    for name in plan.config.stack.members or ():
        if name not in known:
            raise ConfigError(f"stack.members: no row named {name!r}; there are {', '.join(sorted(known))}")


def check_trainable(
    loaded: LoadedConfig, plan: Plan, note: Callable[[str], object], known: Collection[str] = ()
) -> None:
    """Let the libraries judge the parameters that the configuration gives, a few milliseconds for each model.

    Args:
        loaded: the configuration.
        plan: its plan.
        note: receives rows that cannot be trained, and choices that are legal but make the numbers worthless.
        known: keys of units that are stored already; a model that has only these to train was judged before.

    Raises:
        ConfigError: naming the file, the line and the parameter.
    """
    seen = set()
    for index, entry in enumerate(loaded.config.models):
        rows = [i for i, row in enumerate(plan.rows) if row.label == entry.row_label]
        if all(unit.key in known for i in rows for unit in plan.units_of(i)):
            continue
        row = plan.rows[rows[0]]
        case = json.dumps([entry.model, row.params, len(row.features.columns)], sort_keys=True)
        if case in seen:
            continue
        seen.add(case)
        try:
            probe_parameters(row.spec, row.params, entry.params, row.features.columns, len(plan.dataset.train))
        except RefusedParameterError as error:
            path: tuple[str | int, ...] = ("models", index, "params")
            raise loaded.error(path if error.parameter is None else (*path, error.parameter), str(error)) from error
    if warning := few_events(plan.dataset):
        note(warning)
    if plan.refused:
        names = ", ".join(row.name for row, _ in plan.refused)
        note(f"{plan.refused[0][1]}; not trained: {names}")


def few_events(dataset: Dataset) -> str:
    """Return a line of warning where a fold holds very few events of a class, otherwise an empty text."""
    fold = dataset.fold[0]
    for name, members in (("signal", dataset.y), ("background", ~dataset.y)):
        least = int(np.bincount(fold[members], minlength=int(fold.max()) + 1).min())
        if least < FEW:
            events = "event" if least == 1 else "events"
            return (
                f"{dataset.train.source}: a fold holds only {least} {name} {events}; below {FEW} the numbers and their "
                "errors say little (use more events or fewer folds)"
            )
    return ""
