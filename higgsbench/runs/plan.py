"""The plan of a run: its rows, and work units with the digests that identify them."""

from __future__ import annotations

import hashlib
import inspect
import marshal
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.config.model import FeatureConfig
from higgsbench.config.training import Planing
from higgsbench.errors import ConfigError, ModelError
from higgsbench.features import feature_matrix, resolve_column, resolve_features
from higgsbench.files import canonical_digest
from higgsbench.models import get_model
from higgsbench.models.building import on_device
from higgsbench.runs.dataset import Matrix, group_problem
from higgsbench.runs.environment import package_version
from higgsbench.runs.pretrain import SEED, Simulation, simulation_of
from higgsbench.runs.robust import USUAL, Robust, check_shifts, robust_of
from higgsbench.runs.unit import REFIT, Start, Unit
from higgsbench.validation import PROPORTIONAL

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from numpy.typing import NDArray

    from higgsbench.config.load import LoadedConfig
    from higgsbench.config.model import ModelConfig, RunConfig
    from higgsbench.events.table import Events
    from higgsbench.features import Features
    from higgsbench.models import ModelSpec
    from higgsbench.runs.dataset import Dataset
    from higgsbench.schema import TableSchema

UNIT_FORMAT = 5
"""Incremented whenever the same inputs would give different scores or files; older units are then never reused."""

FEWEST = 20
"""A fit that is limited to a part of the training events has at least this many events of a class."""

DEFAULT_FEATURES, DEFAULT_WEIGHTS = "raw", "balanced"
"""The defaults where neither the configuration nor the preset makes a choice."""


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
        device_note: why it is trained on the processor, or without simulated events, although the configuration asks
            for something else; otherwise empty.
        training_events: number of events that each fit is limited to, and number of the draw; None for all events.
        simulation: how it uses simulated events, or None.
        files: digest of the files that its parameters name; empty if they name none.
        robust: how its training differs from the usual.
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
    training_events: tuple[int, int] | None = None
    simulation: Simulation | None = None
    files: str = ""
    robust: Robust = USUAL

    @property
    def name(self) -> str:
        """Unique name of the row within its run."""
        return self.label if self.variant == "global" else f"{self.label} [{self.variant}]"

    @property
    def can_train_from_disk(self) -> bool:
        """Whether the library, and the way in which the row is trained, allow it."""
        return self.spec.from_disk is not None and self.simulation is None and not self.robust.shifts

    @property
    def beside(self) -> int:
        """Number of simulated events that each fit is trained on together with those of the run."""
        return self.simulation.events if self.simulation is not None and self.simulation.beside else 0


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

    def share(self, part: str) -> set[str]:
        """Return the keys of the units of a part such as "3/20"; long and short fits are spread evenly over the parts.

        Raises:
            ConfigError: unless `part` is K/N with K from 1 to N.
        """
        found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", part)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise ConfigError(f"--part {part}: write K/N with K from 1 to N, such as 3/20")
        units = sorted(self.units, key=lambda u: (-u.spec.cost, u.row, u.repeat, u.fold))
        return set(list(dict.fromkeys(unit.key for unit in units))[int(found[1]) - 1 :: int(found[2])])


def make_plan(loaded: LoadedConfig, dataset: Dataset, from_disk: Collection[str] = ()) -> Plan:
    """Resolve a configuration against the registry and the events; some rows, by name, are trained from disk.

    Raises:
        ConfigError: for choices that do not go together, with file, line and key, or if no row can be trained.
    """
    config = loaded.config.model_copy(update={"data": loaded.config.data.with_values(dataset.train.schema)})
    wanted = configured_rows(loaded, dataset.train.schema, dataset)
    if not dataset.spectators:
        dataset = replace(dataset, spectators=_spectators(loaded, dataset.train))
    lacking = group_problem(dataset) if any(row.variant == "jets" for row in wanted) else None
    problem = "" if lacking is None else f"{lacking.text}; join it with another group, or use `jet_split: none`"
    refused = tuple((row, problem) for row in wanted if problem and row.variant == "jets")
    rows = tuple(
        replace(row, from_disk=row.name in from_disk) for row in wanted if not problem or row.variant != "jets"
    )
    if not rows:
        raise ConfigError(f"no row can be trained: {problem}")
    units = [unit for position, row in enumerate(rows) for unit in _units_of(position, row, config, dataset)]
    return Plan(config, dataset, rows, tuple(units), refused)


def _spectator_columns(loaded: LoadedConfig, schema: TableSchema) -> list[Features]:
    """Return the spectators; a `ConfigError` names file, line and key."""
    found = []
    for at, entry in enumerate(loaded.config.spectators or ()):
        try:
            found.append(resolve_column(schema, entry.choice))
        except ConfigError as error:
            raise loaded.error(("spectators", at), str(error)) from error
    return found


def _spectators(loaded: LoadedConfig, events: Events) -> dict[str, NDArray[np.float64]]:
    """Return the values (n,) of the spectators by name."""
    columns = _spectator_columns(loaded, events.schema)
    parts = [[feature_matrix(part, column)[:, 0] for column in columns] for part in events.batches() if columns]
    names = [column.columns[0] for column in columns]
    return {name: np.concatenate(own).astype(np.float64) for name, *own in zip(names, *parts, strict=True)}


def configured_rows(loaded: LoadedConfig, schema: TableSchema, dataset: Dataset | None = None) -> list[Row]:
    """Return all rows of a configuration with presets and defaults resolved.

    With a dataset, to be trained on, models must be installed, and rows split by jet number need groups.

    Raises:
        ConfigError: naming the file, line and key of the model at fault.
    """
    rows: list[Row] = []
    _spectator_columns(loaded, schema)
    for index, entry in enumerate(loaded.config.models):
        try:
            if dataset is not None:
                get_model(entry.model).check_available()
            simulated = loaded.config.data.source == "simulated" if dataset is None else dataset.train.simulated
            found = _rows_of(
                loaded.config, entry, schema, simulated, None if dataset is None else dataset.training_size
            )
            if dataset is not None and dataset.group is None:  # `both` leaves out rows that need groups
                found = [row for row in found if row.variant == "global"]
            if not found:
                raise ConfigError(f"jet_split: 'groups' needs a group column, which the layout {schema.name} lacks")
            if dataset is not None:
                check_shifts(found[0].robust, dataset.train)
            if dataset is not None and (files := found[0].spec.files) is not None:
                found = [replace(row, files=files(row.params)) for row in found]
            if dataset is not None and entry.training_events is not None:
                check_training_events(entry.training_events.number, dataset, any(r.variant == "jets" for r in found))
            rows += found
        except (ModelError, ConfigError) as error:
            raise loaded.error(("models", index), str(error)) from error
    return rows


def check_training_events(number: int, dataset: Dataset, split: bool) -> None:
    """Refuse a limit that does not limit training events, or leaves too few of a class (and group if split).

    Raises:
        ConfigError: with the numbers that are possible.
    """
    group = dataset.group if split and dataset.group is not None else np.zeros_like(dataset.y, dtype=np.int64)
    rarest = int(np.unique(2 * group + dataset.y, return_counts=True)[1].min())
    least, most = -(-FEWEST * dataset.y.size // rarest), dataset.training_size
    if not least <= number < most:
        where = " in each jet group" if split else ""
        raise ConfigError(
            f"training_events: {number:,} is not a number from {least:,} to {most - 1:,}; a fit needs at least "
            f"{FEWEST} events of each class{where}, and there are {most:,} without a limit"
        )


def _rows_of(
    config: RunConfig, entry: ModelConfig, schema: TableSchema, simulated: bool, events: int | None
) -> list[Row]:
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
    scheme = DEFAULT_WEIGHTS if isinstance(wanted, Planing) else wanted
    weights = scheme if spec.sample_weight else "none"
    calibration = entry.calibration or config.calibration
    params, note = on_device(spec, {**settings.params, **spec.canonical(entry.params)}, config.device)
    robust = robust_of(entry, wanted, spec, params, schema)
    if calibration == "auto":  # events of the simulation, or shifted ones, are not quite those of the run
        exact = weights in PROPORTIONAL and entry.trained_on is None and robust == USUAL
        calibration = "prior" if exact else "logit"
    split = entry.jet_split or config.jet_split
    variants = {"none": ("global",), "groups": ("jets",), "both": ("global", "jets")}[split]
    limit = None if entry.training_events is None else (entry.training_events.number, entry.training_events.draw)
    fitted = events if limit is None else limit[0]
    simulation, without = simulation_of(entry, spec, settings.params, params, weights, schema, simulated, fitted)
    if simulation is not None:
        if split != "none":
            raise ConfigError(f"{simulation.key}: cannot be combined with `jet_split: {split}`; remove one of them")
        params |= simulation.then or {}
    note = "; ".join(text for text in (note, without) if text)
    how: dict[str, Any] = {"device_note": note, "training_events": limit, "simulation": simulation, "robust": robust}
    return [
        Row(entry.row_label, v, spec, params, preset, weights, calibration, choice, features, **how) for v in variants
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
        "matrix": Matrix(row.features).name,
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
    digests = [*(_code_digest(function) for function in code), *([row.spec.code] if row.spec.code else [])]
    # Everything that determines a row's scores except the fold; `matrix` covers the values of the categories.
    identity = {name: value for name, value in shared.items() if name not in ("row", "spec", "categories")}
    if row.training_events is not None:
        shared["training_events"] = identity["training_events"] = row.training_events
    if row.files:
        identity["files"] = row.files
    identity |= {
        "format": UNIT_FORMAT,
        "data": dataset.train.digest,
        "model": row.spec.name,
        "code": digests,
        "missing": row.spec.missing,
        "versions": {name: package_version(name) or "none" for name in {*row.spec.requires, "numpy", "scikit-learn"}},
    }
    shared |= (own := row.robust.of_unit(row.features))
    identity |= own
    if row.simulation is not None:
        start = _start(row, shared, identity)
        shared["start"], identity["start"] = (
            start,
            [start.unit.key, start.params, *(["beside"] if start.beside else [])],
        )
    try:
        canonical_digest(identity)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"model {row.label!r}: parameters must be plain values: {error}") from error
    test = None if dataset.test is None or row.training_events is not None else dataset.test.digest
    refit = config.test_prediction == "refit" and (test is not None or config.store_models)
    refit = refit and row.training_events is None
    places = [(repeat, fold) for repeat in range(len(config.seeds)) for fold in range(dataset.folds)]
    digests_of_folds = [dataset.digest_of(repeat) for repeat in range(len(config.seeds))]
    units = []
    for repeat, fold in [*places, (0, REFIT)] if refit else places:
        seed = config.seeds[repeat][1] + (0 if fold == REFIT else fold)
        scored = test if fold == REFIT or not refit else None
        # Not the number of the repeat: the fits of one seed are those of a run with this seed only.
        held_out = None if fold == REFIT else [0, fold, digests_of_folds[repeat]]
        place = {"seed": seed, "fold": held_out, "test": scored}
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


def _start(row: Row, shared: Mapping[str, Any], identity: Mapping[str, Any]) -> Start:
    """Return what the units of a row start from: the fit of the same model on simulated events."""
    simulation: Any = row.simulation
    own = {"params": simulation.params, "negative_weights": None, "from_disk": False}
    events = {"data": simulation.settings.identity(), "seed": SEED}
    unit = Unit(
        key=canonical_digest({**{k: v for k, v in identity.items() if k != "training_events"}, **own, **events})[:32],
        name=f"{row.name}, simulated events",
        repeat=0,
        fold=REFIT,
        seed=SEED,
        test_matrix=None,
        **{**shared, **own, "training_events": None},
    )
    return Start(unit, simulation.events, simulation.then, simulation.beside)
