"""The presets `best` with one value changed: back to the library's default, or a step to either side."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from higgsbench.models import get_model
from higgsbench.models.spec import BAG

__all__ = ["BASE", "MODELS", "Variant", "variants"]

MODELS = ("xgboost", "lightgbm", "catboost", "mlp", "torch_mlp", "random_forest", "logistic")

BASE: dict[str, dict[str, Any]] = {
    "xgboost": {BAG: 1},
    "lightgbm": {BAG: 1},
    "catboost": {BAG: 1},
    "mlp": {BAG: 2},
    "torch_mlp": {"members": 4},
    "random_forest": {"n_estimators": 200},
    "logistic": {},
}
"""What the lines start from: the preset with a small bag, for a full one multiplies the cost and hides little."""

Change = dict[str, Any]

REVERTED: dict[str, tuple[Change, ...]] = {
    "xgboost": (
        {"max_depth": 6},
        {"learning_rate": 0.3},
        {"min_child_weight": 1},
        {"colsample_bytree": 1.0},
        {"early_stopping_rounds": None, "validation_fraction": None, "n_estimators": 450},
        {"early_stopping_rounds": None, "validation_fraction": None, "n_estimators": 100},
    ),
    "lightgbm": (
        {"num_leaves": 31},
        {"learning_rate": 0.1},
        {"min_child_samples": 20},
        {"colsample_bytree": 1.0},
        {"subsample": 1.0, "subsample_freq": 0},
        {"early_stopping_rounds": None, "validation_fraction": None, "n_estimators": 400},
        {"early_stopping_rounds": None, "validation_fraction": None, "n_estimators": 100},
    ),
    "catboost": (
        {"border_count": 254},
        {"bootstrap_type": "MVS", "subsample": 0.8},
        {"learning_rate": None},
        {"early_stopping_rounds": None, "validation_fraction": None, "iterations": 400},
        {"early_stopping_rounds": None, "validation_fraction": None, "iterations": 1000},
    ),
    "mlp": (
        {"hidden_layer_sizes": [100]},
        {"alpha": 0.0001},
        {"max_iter": 40},
        {"batch_size": 200},
        {"learning_rate_init": 0.001},
        {"scaling": "quantiles"},
    ),
    "torch_mlp": ({"dropout": 0.0}, {"weight_decay": 0.0}, {"learning_rate": 0.001}),
    "random_forest": ({"min_samples_leaf": 1}, {"max_samples": None}, {"n_estimators": 100}),
    "logistic": ({"degree": 1}, {"C": 1.0}, {"max_iter": 100}),
}
"""Values that differ from the library's default, put back to it; None leaves the parameter out. CatBoost's `depth` and
`boosting_type` and the forest's `max_features` are the defaults, written down. Networks without early stopping after
200 epochs would take half an hour: 40 stand in for them."""

NO_DEFAULTS: dict[str, tuple[str, ...]] = {
    "xgboost": ("n_estimators 450",),
    "lightgbm": ("n_estimators 400",),
    "catboost": ("iterations 400",),
    "mlp": ("max_iter 40",),
    "torch_mlp": ("dropout 0.0", "weight_decay 0.0", "learning_rate 0.001"),
}
"""What stands among these, though no library has it as its default: the rounds of the preset `good`, values that stand
in for dear ones, and those of `torch_mlp`, whose defaults are the preset."""

NEIGHBOURS: dict[str, tuple[Change, ...]] = {
    "xgboost": (
        *({"max_depth": depth} for depth in (4, 3)),
        *({"learning_rate": rate} for rate in (0.06, 0.02)),
        *({"min_child_weight": least} for least in (15, 150)),
        *({"colsample_bytree": share} for share in (0.7, 0.3)),
        *({"early_stopping_rounds": rounds} for rounds in (20, 100)),
        *({"validation_fraction": share} for share in (0.05, 0.2)),
    ),
    "lightgbm": (
        *({"num_leaves": leaves} for leaves in (8, 12, 24)),
        *({"learning_rate": rate} for rate in (0.06, 0.02)),
        *({"min_child_samples": least} for least in (100,)),
        *({"colsample_bytree": share} for share in (0.7, 0.3)),
        *({"subsample": share} for share in (0.6,)),
        *({"early_stopping_rounds": rounds} for rounds in (20, 100)),
        *({"validation_fraction": share} for share in (0.05, 0.2)),
    ),
    "catboost": (
        *({"depth": depth} for depth in (5, 7)),
        *({"border_count": count} for count in (32, 128)),
        *({"learning_rate": rate} for rate in (0.03, 0.1)),
        *({"subsample": share} for share in (0.5, 0.9)),
        *({"validation_fraction": share} for share in (0.05, 0.2)),
    ),
    "mlp": (
        *({"hidden_layer_sizes": sizes} for sizes in ([96, 96], [192, 192], [128, 128, 128])),
        *({"alpha": alpha} for alpha in (0.03, 0.3)),
        *({"max_iter": epochs} for epochs in (6, 12)),
        *({"batch_size": size} for size in (128, 512)),
        *({"learning_rate_init": rate} for rate in (0.004,)),
    ),
    "torch_mlp": (
        *({"weight_decay": decay} for decay in (0.1, 1.0)),
        *({"epochs": epochs} for epochs in (10, 25)),
        *({"dropout": share} for share in (0.15, 0.35)),
        *({"learning_rate": rate} for rate in (0.003, 0.012)),
        *({"batch_size": size} for size in (128, 512)),
        *({"hidden_layer_sizes": sizes} for sizes in ([96, 96], [128, 128, 128])),
    ),
    "random_forest": ({"min_samples_leaf": 3}, {"min_samples_leaf": 10}, {"max_samples": 0.3}, {"max_features": 0.3}),
    "logistic": ({"C": 0.001}, {"C": 0.01}),
}
"""A step to either side."""

WHOLE: dict[str, Change] = {
    "xgboost": {BAG: 3},
    "lightgbm": {BAG: 4},
    "catboost": {BAG: 3},
    "mlp": {BAG: 8},
    "torch_mlp": {"members": 8},
    "random_forest": {"n_estimators": 400},
}
"""The full bag of the preset."""


@dataclass(frozen=True)
class Variant:
    """One line of the table.

    Attributes:
        model: name in the registry.
        kind: `start`, `seeds`, `default`, `step`, `bag` or `data`.
        change: parameters that differ from the start.
        features: feature set, or None for the preset's.
        training_weights: scheme, or None for the preset's.
        shift: added to the seeds of the models.
    """

    model: str
    kind: str
    change: Mapping[str, Any] = field(default_factory=dict)
    features: str | None = None
    training_weights: str | None = None
    shift: int = 0

    @property
    def params(self) -> dict[str, Any]:
        """All parameters."""
        whole = {**get_model(self.model).preset("best").params, **BASE[self.model], **self.change}
        return {name: value for name, value in whole.items() if value is not None}

    @property
    def data(self) -> tuple[str, str]:
        """Feature set and training weights."""
        preset = get_model(self.model).preset("best")
        return self.features or preset.features or "raw", self.training_weights or preset.training_weights or "balanced"

    @property
    def is_default(self) -> bool:
        """Whether the change is back to the library's default."""
        stands_in = NO_DEFAULTS.get(self.model, ())
        return self.kind == "default" and not any(self.label.endswith(value) for value in stands_in)

    @property
    def label(self) -> str:
        """What is changed, in words."""
        if self.kind == "start":
            return "preset `best`" + "".join(f", {name} {value}" for name, value in BASE[self.model].items())
        if self.kind == "seeds":
            return "other seeds of the models"
        changes = [f"{name} {'left out' if value is None else value}" for name, value in self.change.items()]
        if self.change.get("early_stopping_rounds", 0) is None:
            changes = [f"no early stopping, {changes[-1]}"]
        if self.features:
            changes.append(f"features {self.features}")
        if self.training_weights:
            changes.append(f"training weights {self.training_weights}")
        return ", ".join(changes)


def variants() -> Iterator[Variant]:
    """All lines, those that the presets rest on first; models that the recipe leaves out come behind the others."""
    inside, outside = MODELS[:5], MODELS[5:]
    for models in (inside, outside):
        for model in models:
            yield Variant(model, "start")
        for model in models:
            yield from (Variant(model, "default", change) for change in REVERTED[model])
        for model in models:
            yield Variant(model, "seeds", shift=10_000_019)
            if model in WHOLE:
                yield Variant(model, "bag", WHOLE[model])
    for steps in itertools.zip_longest(*(NEIGHBOURS[model] for model in MODELS)):
        for model, change in zip(MODELS, steps, strict=True):
            if change is not None:
                yield Variant(model, "step", change)
    for model in MODELS:
        yield Variant(model, "data", training_weights="balanced")
        yield Variant(model, "data", features="physics" if model.endswith("mlp") else "raw")
