"""What the training of a row uses besides features: weights flat in a column, a penalty, shifted copies of events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from higgsbench.config.training import Planing
from higgsbench.errors import ConfigError, DataError
from higgsbench.events.shifts import Shifts, apply_shifts
from higgsbench.features import resolve_column
from higgsbench.models import registered_models
from higgsbench.runs.dataset import Matrix

if TYPE_CHECKING:
    from collections.abc import Mapping

    from higgsbench.config.model import ModelConfig
    from higgsbench.config.training import Augmentation
    from higgsbench.events import Events
    from higgsbench.features import Features
    from higgsbench.models import ModelSpec
    from higgsbench.schema import TableSchema

SEED = 20200712
"""Seed of the draws of shifts, so that all rows and runs use the same shifts."""


class Robust(NamedTuple):
    """How the training of a row differs from the usual.

    Attributes:
        planed: the column in which the training weights are flat, or None.
        decorrelated: the column that the score should not depend on and the strength of the penalty, or None.
        shifts: shifts of the copies of the events that are trained on too.
    """

    planed: Features | None = None
    decorrelated: tuple[Features, float] | None = None
    shifts: tuple[Shifts, ...] = ()

    def matrices(self, features: Features) -> list[Matrix]:
        """Return what the fits need of the events, for a model that sees these features."""
        columns = (self.planed, self.decorrelated and self.decorrelated[0])
        moved = (Matrix(features, shifts) for shifts in self.shifts)
        return [Matrix(features), *(Matrix(column) for column in columns if column is not None), *moved]

    def of_unit(self, features: Features) -> dict[str, Any]:
        """Return the fields of a unit that differ from the usual; they are part of its identity."""
        out: dict[str, Any] = {}
        if self.planed is not None:
            out["planed"] = Matrix(self.planed).name
        if self.decorrelated is not None:
            out["decorrelate"] = Matrix(self.decorrelated[0]).name, self.decorrelated[1]
        if self.shifts:
            out["shifted"] = tuple(Matrix(features, shifts).name for shifts in self.shifts)
        return out

    def record(self) -> dict[str, Any]:
        """Return what rows.json says about it."""
        out: dict[str, Any] = {}
        if self.decorrelated is not None:
            out["decorrelated"] = self.decorrelated[0].columns[0]
        return out | ({"shifted_copies": len(self.shifts)} if self.shifts else {})


USUAL = Robust()


def robust_of(
    entry: ModelConfig, weights: str | Planing, spec: ModelSpec, params: Mapping[str, Any], schema: TableSchema
) -> Robust:
    """Return how the training of a model differs from the usual.

    Raises:
        ConfigError: if the column does not exist or the model cannot be trained in this way; it names the key.
    """
    found = USUAL
    if isinstance(weights, Planing):
        if not spec.sample_weight:
            raise ConfigError(f"training_weights: model {spec.name!r} takes no weights, so `flat_in` is impossible")
        found = found._replace(planed=resolve_column(schema, weights.flat_in, "training_weights.flat_in"))
    if entry.decorrelate is not None:
        if not spec.decorrelates:
            able = " or ".join(model.name for model in registered_models() if model.decorrelates)
            raise ConfigError(f"decorrelate: model {spec.name!r} has no such penalty; use {able}")
        column = resolve_column(schema, entry.decorrelate.column, "decorrelate.column")
        found = found._replace(decorrelated=(column, entry.decorrelate.strength))
    if entry.training is not None:
        if params.get("early_stopping_rounds") is not None:
            reason = "copies of an event would be on both sides; set `params: {early_stopping_rounds: null}`"
            raise ConfigError(f"training.augment: cannot be combined with early stopping: {reason}")
        found = found._replace(shifts=_drawn(entry.training))
    if found != USUAL and (entry.pretrain or entry.trained_on):
        keys = ("training_weights.flat_in", "decorrelate", "training.augment")
        key = next(key for key, part in zip(keys, found, strict=True) if part)
        raise ConfigError(f"{key}: cannot be combined with `pretrain` or `trained_on`; remove one of them")
    return found


def _drawn(augmentation: Augmentation) -> tuple[Shifts, ...]:
    """Draw the shifts of the copies, normally distributed, in pairs of opposite sign, so that their mean is zero."""
    sizes = augmentation.sizes
    half = np.random.default_rng(SEED).standard_normal((augmentation.copies // 2, len(sizes)))
    draws = np.concatenate([half, -half]).round(6).tolist()
    named = (dict(zip(sizes, draw, strict=True)) for draw in draws)
    return tuple(Shifts(**{name: size * draw[name] for name, size in sizes.items()}) for draw in named)


def check_shifts(robust: Robust, events: Events) -> None:
    """Refuse events that cannot be shifted, before anything is trained, by a `ConfigError`."""
    if robust.shifts:
        try:
            apply_shifts(next(events.batches()).head(10), robust.shifts[0], schema=events.schema)
        except DataError as error:
            raise ConfigError(f"training.augment: {error}") from error
