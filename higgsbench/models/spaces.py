"""Search spaces of the built-in models, with the libraries' own defaults; they hold all presets."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from higgsbench.models.space import Choice, Float, Int

if TYPE_CHECKING:
    from higgsbench.models.space import SearchSpace

__all__ = ["SPACES"]

SPACES: dict[str, SearchSpace] = {
    "logistic": MappingProxyType({"C": Float(1e-4, 100.0, log=True, default=1.0), "degree": Choice((1, 2), default=1)}),
    "random_forest": MappingProxyType(
        {
            "n_estimators": Int(50, 400, step=10, default=100),
            "min_samples_leaf": Int(1, 100, log=True, default=5),
            "max_features": Choice(("sqrt", 0.15, 0.3, 0.5), default="sqrt"),
            "max_samples": Float(0.2, 0.9),
            "min_impurity_decrease": Float(0.0, 1e-4, default=0.0),
        }
    ),
    "catboost": MappingProxyType(
        {
            "iterations": Int(100, 3000, log=True, default=1000),
            "learning_rate": Float(0.01, 0.3, log=True),
            "depth": Int(3, 9, default=6),
            "l2_leaf_reg": Float(0.5, 100.0, log=True, default=3.0),
            "subsample": Float(0.4, 1.0, default=0.8),
            "rsm": Float(0.2, 1.0, default=1.0),
            "random_strength": Float(0.0, 5.0, default=1.0),
        }
    ),
    "xgboost": MappingProxyType(
        {
            "n_estimators": Int(100, 3000, log=True, default=100),
            "learning_rate": Float(0.005, 0.3, log=True, default=0.3),
            "max_depth": Int(2, 9, default=6),
            "min_child_weight": Float(1.0, 300.0, log=True, default=1.0),
            "subsample": Float(0.4, 1.0, default=1.0),
            "colsample_bytree": Float(0.2, 1.0, default=1.0),
            "reg_alpha": Float(0.0, 10.0, default=0.0),
            "reg_lambda": Float(0.1, 100.0, log=True, default=1.0),
            "gamma": Float(0.0, 5.0, default=0.0),
        }
    ),
    "lightgbm": MappingProxyType(
        {
            "n_estimators": Int(100, 3000, log=True, default=100),
            "learning_rate": Float(0.005, 0.3, log=True, default=0.1),
            "num_leaves": Int(4, 128, log=True, default=31),
            "min_child_samples": Int(5, 500, log=True, default=20),
            "subsample": Float(0.4, 1.0, default=1.0),
            "colsample_bytree": Float(0.2, 1.0, default=1.0),
            "reg_alpha": Float(0.0, 10.0, default=0.0),
            "reg_lambda": Float(0.0, 50.0, default=0.0),
        }
    ),
    "mlp": MappingProxyType(
        {
            "hidden_layer_sizes": Choice(([32], [64], [128], [64, 64], [96, 96], [128, 128], [64, 64, 64])),
            "alpha": Float(1e-3, 3.0, log=True),
            "learning_rate_init": Float(1e-4, 1e-2, log=True, default=0.001),
            "max_iter": Int(3, 30, log=True),
            "batch_size": Choice((64, 128, 256, 512)),
        }
    ),
}
"""Space per model name."""
