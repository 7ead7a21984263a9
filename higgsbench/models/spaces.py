"""Search spaces of the built-in models. Each holds the library's default or that of the `good` preset."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from higgsbench.models.space import Choice, Float, Int

if TYPE_CHECKING:
    from higgsbench.models.space import SearchSpace

__all__ = ["SPACES"]

SPACES: dict[str, SearchSpace] = {
    "logistic": MappingProxyType({"C": Float(1e-4, 100.0, log=True), "degree": Choice((1, 2))}),
    "random_forest": MappingProxyType(
        {
            "n_estimators": Int(50, 400, step=50),
            "min_samples_leaf": Int(1, 100, log=True),
            "max_features": Choice(("sqrt", 0.15, 0.3, 0.5)),
            "max_samples": Float(0.2, 0.9),
            "min_impurity_decrease": Float(0.0, 1e-4),
        }
    ),
    "catboost": MappingProxyType(
        {
            "iterations": Int(100, 1000, log=True),
            "learning_rate": Float(0.01, 0.3, log=True),
            "depth": Int(3, 9),
            "l2_leaf_reg": Float(0.5, 100.0, log=True),
            "subsample": Float(0.4, 1.0),
            "rsm": Float(0.2, 1.0),
            "random_strength": Float(0.0, 5.0),
        }
    ),
    "xgboost": MappingProxyType(
        {
            "n_estimators": Int(100, 1500, log=True),
            "learning_rate": Float(0.005, 0.3, log=True),
            "max_depth": Int(2, 9),
            "min_child_weight": Float(1.0, 300.0, log=True),
            "subsample": Float(0.4, 1.0),
            "colsample_bytree": Float(0.2, 1.0),
            "reg_alpha": Float(0.0, 10.0),
            "reg_lambda": Float(0.1, 100.0, log=True),
            "gamma": Float(0.0, 5.0),
        }
    ),
    "lightgbm": MappingProxyType(
        {
            "n_estimators": Int(100, 1500, log=True),
            "learning_rate": Float(0.005, 0.3, log=True),
            "num_leaves": Int(4, 128, log=True),
            "min_child_samples": Int(5, 500, log=True),
            "subsample": Float(0.4, 1.0),
            "colsample_bytree": Float(0.2, 1.0),
            "reg_alpha": Float(0.0, 10.0),
            "reg_lambda": Float(0.0, 50.0),
        }
    ),
    "mlp": MappingProxyType(
        {
            "hidden_layer_sizes": Choice(([32], [64], [128], [64, 64], [96, 96], [128, 128], [64, 64, 64])),
            "alpha": Float(1e-3, 3.0, log=True),
            "learning_rate_init": Float(1e-4, 1e-2, log=True),
            "max_iter": Int(3, 30, log=True),
            "batch_size": Choice((64, 128, 256, 512)),
        }
    ),
}
"""Space per model name."""
