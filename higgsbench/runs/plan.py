"""The plan of a run: its events and folds, its rows, and work units with the digests that identify them."""

from __future__ import annotations

import hashlib
import inspect
import marshal
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.challenge import TEST_SETS
from higgsbench.config.document import format_size, parse_size
from higgsbench.config.load import source_events
from higgsbench.config.model import FeatureConfig, FoldRule
from higgsbench.errors import ConfigError, DataError, ModelError
from higgsbench.events.read import open_events
from higgsbench.events.table import Events
from higgsbench.expressions import parse_expression
from higgsbench.features import resolve_features
from higgsbench.files import canonical_digest
from higgsbench.metrics.weights import evaluation_weights
from higgsbench.models import get_model
from higgsbench.models.building import on_device
from higgsbench.runs.environment import available_memory, package_version
from higgsbench.runs.stored import processes_of
from higgsbench.runs.unit import REFIT, Unit
from higgsbench.validation.folds import PROPORTIONAL, fold_assignments, folds_by_value, group_index

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    import polars as pl
    from numpy.typing import NDArray

    from higgsbench.config import LoadedConfig, ModelConfig, RunConfig
    from higgsbench.features import Features
    from higgsbench.metrics.processes import Processes
    from higgsbench.models import ModelSpec
    from higgsbench.schema import TableSchema

UNIT_FORMAT = 5
"""Incremented whenever the same inputs would give different scores or files; older units are then never reused."""

DEFAULT_FEATURES, DEFAULT_WEIGHTS = "raw", "balanced"
"""The defaults where neither the configuration nor the preset makes a choice."""

_PER_SIMULATED = 600.0
"""Bytes of the main process per simulated event: the table and a copy of it, as measured up to 600,000 events."""


@dataclass(frozen=True)
class Dataset:
    """Events of a run.

    Attributes:
        train: labelled events that are cross-validated.
        test: held-out events, or None.
        y: (n,) truth of the training events.
        weight: (n,) their evaluation weights at the reference totals.
        totals: reference totals (N_s, N_b).
        group: (n,) index of the jet group, or None where the layout has no groups.
        groups: the numbers that form each group.
        fold, fold_digest: (repeats, n) fold numbers, and their identity.
        fold_values: value of `folds.by` in each fold, empty without such a rule.
        processes: physics process of each training event, or None where it is not known.
    """

    train: Events
    test: Events | None
    y: NDArray[np.bool_]
    weight: NDArray[np.float64]
    totals: tuple[float, float]
    group: NDArray[np.int64] | None
    groups: tuple[tuple[int, ...], ...]
    fold: NDArray[np.int64]
    fold_digest: str
    fold_values: tuple[int, ...] = ()
    processes: Processes | None = None

    @property
    def folds(self) -> int:
        """Number of folds."""
        return int(self.fold.max()) + 1


@dataclass(frozen=True)
class Row:
    """One leaderboard row that comes from training: a model in one variant.

    Attributes:
        label: name in tables.
        variant: `global` or `jets`.
        spec: the model.
        params, preset: parameters with the preset resolved, and the preset they came from.
        training_weights: scheme, `none` if the model does not take weights.
        calibration: `prior` or `logit`.
        choice, features: the choice of features as configured or preset, and what the model sees.
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
        config, dataset: the run's configuration and events.
        rows, units: rows that are trained, and their units.
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
    """Resolve a configuration against the registry and the events; some rows, by name, are trained from disk.

    Raises:
        ConfigError: for choices that do not go together, with file, line and key, or if no row can be trained.
    """
    config = loaded.config.model_copy(update={"data": loaded.config.data.with_values(dataset.train.schema)})
    wanted = configured_rows(loaded, dataset.train.schema, dataset)
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
                shown = list(numbers) if len(numbers) < 8 else f"[{numbers[0]}, {numbers[1]}, ..., {numbers[-1]}]"
                return (
                    f"jet_groups: group {shown} has no {name} events of positive total weight{where}; "
                    "join it with another group"
                )
    return ""


def configured_rows(loaded: LoadedConfig, schema: TableSchema, dataset: Dataset | None = None) -> list[Row]:
    """Return all rows of a configuration with presets and defaults resolved.

    With a dataset, to be trained on, models must be installed, and rows split by jet number need groups.

    Raises:
        ConfigError: naming the file, line and key of the model at fault.
    """
    rows: list[Row] = []
    for index, entry in enumerate(loaded.config.models):
        try:
            if dataset is not None:
                get_model(entry.model).check_available()
            found = _rows_of(loaded.config, entry, schema)
            if dataset is not None and dataset.group is None:  # `both` leaves out rows that need groups
                found = [row for row in found if row.variant == "global"]
            if not found:
                raise ConfigError(f"jet_split: 'groups' needs a group column, which the layout {schema.name} lacks")
            rows += found
        except (ModelError, ConfigError) as error:
            raise loaded.error(("models", index), str(error)) from error
    return rows


def _rows_of(config: RunConfig, entry: ModelConfig, schema: TableSchema) -> list[Row]:
    spec = get_model(entry.model)
    spec.check_parameters(entry.params)
    preset = entry.preset or config.preset
    settings = spec.preset(preset)
    asked = entry.features or config.features
    choice = asked or FeatureConfig(set=settings.features or DEFAULT_FEATURES)
    try:
        features = chosen_features(choice, schema)
    except ConfigError:
        if asked:
            raise
        choice = FeatureConfig(set=DEFAULT_FEATURES)  # the layout lacks columns of the preset's set
        features = chosen_features(choice, schema)
    wanted = entry.training_weights or config.training_weights or settings.training_weights or DEFAULT_WEIGHTS
    weights = wanted if spec.sample_weight else "none"
    calibration = entry.calibration or config.calibration
    if calibration == "auto":
        calibration = "prior" if weights in PROPORTIONAL else "logit"
    split = entry.jet_split or config.jet_split
    variants = {"none": ("global",), "groups": ("jets",), "both": ("global", "jets")}[split]
    params, note = on_device(spec, {**settings.params, **spec.canonical(entry.params)}, config.device)
    return [
        Row(entry.row_label, v, spec, params, preset, weights, calibration, choice, features, device_note=note)
        for v in variants
    ]


def chosen_features(choice: FeatureConfig, schema: TableSchema) -> Features:
    """Turn the `features` of a configuration or of a stored run into expressions; a ConfigError for unknown names."""
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
        "categories": row.features.categories,
    }
    code: list[Any] = [row.spec.build, row.spec.log_odds, row.spec.from_disk if row.from_disk else None]
    if row.features.categories:
        code.append(row.spec.with_categories)
    # Everything that determines a row's scores except the fold; `matrix` covers the values of the categories.
    identity = {name: value for name, value in shared.items() if name not in ("row", "spec", "categories")} | {
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
    places = [(repeat, fold) for repeat in range(config.repeats) for fold in range(dataset.folds)]
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


def load_dataset(config: RunConfig) -> Dataset:
    """Load and split the events that a configuration asks for.

    Raises:
        ConfigError: if the configuration names no events or sets that do not exist, or simulates more than fits.
        DataError: if a file breaks a rule.
    """
    _check_simulation(config)
    events = source_events(config.data, stored=True, by=config.folds_by)
    if not events.labelled:
        raise DataError(f"{events.source}: no columns {events.schema.label} and {events.schema.weight}: cannot train")
    train, test = _split(events, config)
    train = train.with_categories()
    if test is not None:
        test = replace(test, schema=train.schema)
    y = train.y
    for name, members in (("signal", y), ("background", ~y)):
        if not members.any():
            labels = sorted(str(label) for label in train.frame[train.schema.label].unique())[:5]
            raise DataError(
                f"{train.source}: no {name} events among the {len(train)} training events; column "
                f"{train.schema.label} has {', '.join(repr(label[:30]) for label in labels)}"
            )
    totals = (config.data.n_s or events.totals()[0], config.data.n_b or events.totals()[1])
    weight = evaluation_weights(y, train.weight, *totals)
    groups = tuple(tuple(g) for g in config.jet_groups) if config.jet_groups else train.schema.groups
    group = _group_of(train, groups)
    if test is not None:
        _group_of(test, groups)
    if isinstance(config.folds, FoldRule):
        values = train.lazy().select(fold_expression(config.folds.by, train.schema).alias("fold")).collect()["fold"]
        fold, fold_values = folds_by_value(values.fill_null(np.nan).to_numpy(), y, config.folds.k, config.folds.by)
    else:
        fold, fold_values = fold_assignments(y, group, config.folds, config.repeats, config.seed, train.event_id), ()
    # A digest of the assignment itself, so that a splitter that changes between versions shows.
    digest = canonical_digest([train.digest, hashlib.sha256(fold.tobytes()).hexdigest()])
    processes = processes_of(train.process, y, weight)
    return Dataset(train, test, y, weight, totals, group, groups, fold, digest, fold_values, processes)


def fold_expression(by: str, schema: TableSchema) -> pl.Expr:
    """Return the float64 value of `folds.by` over a table of events, which may already have it as a column."""
    if schema.fold is not None:
        return parse_expression(f'"{schema.fold}"', (schema.fold,), "folds.by", vectors=False).polars
    number = () if schema.event_id is None else (schema.event_id,)
    never = [name for name in schema.not_features if name not in number]
    columns = (*schema.numeric, *number, *(() if schema.group is None else (schema.group,)))
    reason = "cannot decide the fold of an event; use its number, or a column that does not depend on the truth"
    return parse_expression(by, columns, "folds.by", never=never, reason=reason, vectors=False).polars


def _check_simulation(config: RunConfig) -> None:
    """Refuse more simulated events than memory holds, before any is simulated."""
    if config.data.source != "simulated" or config.data.events is None:
        return
    need = _PER_SIMULATED * config.data.events
    limit, source = available_memory(), "the available memory"
    if config.memory_limit:
        limit, source = parse_size(config.memory_limit), "memory_limit"
    if need > limit:
        raise ConfigError(
            f"data.events: {config.data.events:,} simulated events need about {format_size(need)} of memory "
            f"({_PER_SIMULATED:.0f} bytes each); {source} is {format_size(limit)}: use at most "
            f"{int(limit / _PER_SIMULATED):,}, or write a file with `higgsbench data simulate` and train from that"
        )


def _group_of(events: Events, groups: Sequence[Sequence[int]]) -> NDArray[np.int64] | None:
    """Return the position of each event's group; None where there are no groups."""
    if events.group is None or not groups:
        return None
    try:
        return group_index(events.group, groups)
    except ConfigError as error:
        raise ConfigError(f"{events.source}, column {events.schema.group}: {error}") from error


def _split(events: Events, config: RunConfig) -> tuple[Events, Events | None]:
    """Return the training events, and the held-out ones of the same file or of a file of their own."""
    data = config.data
    if events.subset is None:
        if data.train_sets is not None or (data.test_sets is not None and data.test is None):
            column = events.schema.subset or "of subsets (KaggleSet)"
            raise ConfigError(f"data: train_sets and test_sets need a column {column}, which {events.source} lacks")
        return events, _test_file(config, events)
    if data.train_sets is not None and not data.train_sets:
        raise ConfigError("data.train_sets: the list is empty")
    allowed = events.schema.subset_values
    for key, chosen in (("train_sets", data.train_sets), ("test_sets", data.test_sets)):
        unknown = [name for name in chosen or () if allowed and name not in allowed]
        if unknown:
            raise ConfigError(f"data.{key}: no set named {unknown[0]!r}; sets are {', '.join(allowed)}")
    train_sets = data.train_sets or ["t"]
    test_sets = TEST_SETS if data.test_sets is None else data.test_sets
    both = sorted(set(train_sets) & set(test_sets))
    if both and data.test is None:
        raise ConfigError(f"data: set {both[0]!r} is in train_sets and in test_sets")
    members = events.in_subsets(train_sets)
    if not members.any():
        have = ", ".join(sorted(set(events.subset.tolist())))
        raise ConfigError(f"data.train_sets: {events.source} has no events of {', '.join(train_sets)}; it has {have}")
    train = events if members.all() else events.take(members)
    if data.test is not None:
        return train, _test_file(config, train)
    held_out = events.in_subsets(test_sets)
    if data.test_sets and not held_out.any():
        raise ConfigError(f"data.test_sets: {events.source} has no events of {', '.join(test_sets)}")
    return train, events.take(held_out) if held_out.any() else None


def _test_file(config: RunConfig, train: Events) -> Events | None:
    """Return the events of the separate test file, if there is one."""
    path = config.data.test
    if path is None:
        return None
    if config.data.samples is not None and config.data.sample_of(path, train.schema).name:
        raise ConfigError(f"data.test: {path} is a file of the samples; a test on training events would be worthless")
    test = open_events(path, train.schema)
    if test.subset is not None and config.data.test_sets is not None:
        chosen = test.in_subsets(config.data.test_sets)
        if not chosen.any():
            raise ConfigError(f"data.test_sets: {path} has no events of {', '.join(config.data.test_sets)}")
        test = test.take(chosen)
    shared = np.intersect1d(train.event_id, test.event_id)
    if train.schema.event_id is not None and shared.size:
        raise DataError(
            f"{path}: {shared.size} events are also training events, e.g. {train.schema.event_id} {int(shared[0])}; "
            "a test on them would be worthless"
        )
    return test
