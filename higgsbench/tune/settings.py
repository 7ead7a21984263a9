"""What a study is to do: the choices of a user, checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from higgsbench.config.model import FeatureConfig, ModelConfig
from higgsbench.errors import ConfigError, ModelError
from higgsbench.features import resolve_features
from higgsbench.features.sets import feature_sets
from higgsbench.models import get_model
from higgsbench.models.space import Choice
from higgsbench.tune.objective import OBJECTIVES
from higgsbench.validation.weights import TRAINING_WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from higgsbench.config import LoadedConfig, RunConfig
    from higgsbench.models.space import SearchSpace
    from higgsbench.runs.plan import Row
    from higgsbench.schema import TableSchema

__all__ = ["FEATURES", "WEIGHTS", "TuneSettings", "configured", "search_space", "starting_point", "with_values"]

WEIGHTS, FEATURES = "training_weights", "features"
"""Dimensions that are no parameters of the model."""


@dataclass(frozen=True)
class TuneSettings:
    """What a study is to do.

    Attributes:
        model: model or label of the configuration, or any registered model.
        trials: number of trials of each study.
        time_limit: seconds for everything, or None.
        objective: `log_loss`, `auc` or `ams`.
        inner: folds that each trial is judged by.
        outer: how many of the run's folds are held out in turn for the nested score; 0 for none, None for 3 or all
            folds of a run that has fewer.
        prune: whether trials that are behind the median of the others after a fold are broken off.
        vary: `training_weights`, `features`, each perhaps with `=A,B,...`, varied besides the model's parameters.
        jobs: trials at a time, each in a process of its own.
    """

    model: str
    trials: int = 40
    time_limit: float | None = None
    objective: str = "log_loss"
    inner: int = 3
    outer: int | None = None
    prune: bool = True
    vary: Sequence[str] = field(default_factory=tuple)
    jobs: int = 1

    def __post_init__(self) -> None:
        """Check what does not depend on the configuration.

        Raises:
            ConfigError: naming the choice at fault.
        """
        if self.objective not in OBJECTIVES:
            raise ConfigError(f"objective: {self.objective!r} is not one of {', '.join(OBJECTIVES)}")
        for name, least in (("trials", 1), ("inner", 2), ("outer", 0), ("jobs", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"{name}: {value} is less than {least}")


def configured(loaded: LoadedConfig, name: str) -> tuple[LoadedConfig, RunConfig, str | None]:
    """Reduce a configuration to the model to tune, one row of it; a registered model need not stand in it.

    Where the configuration asks for both variants, the global one is tuned.

    Returns:
        The configuration of the study, that of a run with this model, and the model's own `jet_split` in the latter.

    Raises:
        ConfigError: if the model is neither in the configuration nor registered.
    """
    config = loaded.config
    found = [entry for entry in config.models if name in (entry.row_label, entry.model)]
    if len(found) > 1:
        found = [entry for entry in found if entry.row_label == name] or found[:1]
    if not found:
        try:
            get_model(name)
        except ModelError as error:
            raise ConfigError(f"--model {name}: {error}") from error
        found = [ModelConfig(model=name)]
    entry = found[0]
    split = entry.jet_split or config.jet_split
    studied = entry.model_copy(update={"jet_split": "none" if split == "both" else split})
    stack = config.stack.model_copy(update={"members": None})
    given = config.model_copy(update={"models": [entry], "stack": stack})
    study = given.model_copy(update={"models": [studied], "repeats": 1})
    return type(loaded)(study, loaded.document), given, entry.jet_split


def search_space(entry: ModelConfig, vary: Sequence[str], schema: TableSchema) -> SearchSpace:
    """Return the dimensions of a study.

    Raises:
        ConfigError: if the model has no space or `vary` names what cannot be.
    """
    spec = get_model(entry.model)
    space = dict(spec.search_space)
    for item in vary:
        name, equals, text = item.partition("=")
        known = {WEIGHTS: list(TRAINING_WEIGHTS), FEATURES: [s.name for s in feature_sets() if _fits(s.name, schema)]}
        if name not in known:
            raise ConfigError(
                f"--vary {item}: varied can be {' and '.join(known)}, e.g. --vary {WEIGHTS}=balanced,none"
            )
        options = [part.strip() for part in text.split(",")] if equals else known[name]
        for option in options:
            if option not in known[name]:
                raise ConfigError(f"--vary {item}: {option!r} is not one of {', '.join(known[name])}")
        if name == WEIGHTS and not spec.sample_weight:
            raise ConfigError(f"--vary {item}: model {spec.name!r} takes no weights")
        if len(set(options)) < max(2, len(options)):
            raise ConfigError(f"--vary {item}: give two or more different values")
        space[name] = Choice(tuple(options))
    if not space:
        raise ConfigError(
            f"model {spec.name!r} has no search space: give ModelSpec(search_space=...) or --vary {WEIGHTS}"
        )
    return space


def _fits(name: str, schema: TableSchema) -> bool:
    try:
        resolve_features(schema, name=name)
    except ConfigError:
        return False
    return True


def starting_point(row: Row, space: SearchSpace) -> tuple[SearchSpace, dict[str, Any]]:
    """Return where a study begins, what the configuration, the preset or the library says, and a space that holds it.

    Raises:
        ConfigError: if a configured value is of another kind than its dimension.
    """
    said = {**row.params, WEIGHTS: row.training_weights, FEATURES: row.choice.set}
    start = {name: said.get(name, dimension.default) for name, dimension in space.items()}
    start = {name: value for name, value in start.items() if value is not None}
    try:
        whole = {name: d.including(start[name]) if name in start else d for name, d in space.items()}
    except ModelError as error:
        raise ConfigError(f"model {row.label!r}: a study cannot begin with its parameters: {error}") from error
    return whole, start


def with_values(loaded: LoadedConfig, values: dict[str, Any], **changes: Any) -> LoadedConfig:
    """Return the configuration of one model with the values of a trial, and perhaps other folds."""
    (entry,) = loaded.config.models
    own = dict(values)
    update: dict[str, Any] = {}
    if WEIGHTS in own:
        update[WEIGHTS] = own.pop(WEIGHTS)
    if FEATURES in own:
        update[FEATURES] = FeatureConfig(set=own.pop(FEATURES))
    entry = entry.model_copy(update={**update, "params": {**entry.params, **own}})
    return type(loaded)(loaded.config.model_copy(update={"models": [entry], **changes}), loaded.document)
