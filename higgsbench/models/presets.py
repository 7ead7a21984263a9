"""Presets and search spaces of the built-in models."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from higgsbench.models.space import Choice, Float, Int
from higgsbench.models.spec import BAG, Preset

if TYPE_CHECKING:
    from higgsbench.models.space import SearchSpace

__all__ = ["CATBOOST", "LIGHTGBM", "LOGISTIC", "MLP", "MOMENTA", "RANDOM_FOREST", "SPACES", "XGBOOST"]


RAW: dict[str, Any] = {"training_weights": "balanced", "features": "raw"}
"""A common footing: the same columns and weights for all."""

PHYSICS: dict[str, Any] = {"training_weights": "sqrt_balanced", "features": "physics"}
"""For trees: the physics features give +.0020 (8), square roots of the weights the same AUC at .02 to .12 more AMS
over selections of 10 to 20%, for they leave more effective events."""

MOMENTA: dict[str, Any] = {"training_weights": "sqrt_balanced", "features": "momenta"}
"""For networks, which learn angles and masses from momentum vectors in one frame."""

_STOPPED: dict[str, Any] = {"early_stopping_rounds": 50, "validation_fraction": 0.1}
"""The right number of rounds grows with the events (150 to 200 on 12,000 simulated ones, 440 to 580 on 50,000, at a
rate of 0.03), so a part of the training events tells, another in each member of the bag."""

# Squares and products of the columns: degree 1 (the default) -312 (20) | -362 (11) in units of .0001; C 1: -248 (17) |
# -76 (6). 300 iterations only make sure that all fits end: 100 of them change nothing.
LOGISTIC = {
    "quick": Preset({"C": 0.1, "max_iter": 200}, **RAW),
    "good": Preset({"degree": 2, "C": 0.003, "max_iter": 300}, **RAW),
    "best": Preset({"degree": 2, "C": 0.003, "max_iter": 300}, **PHYSICS),
}

# The smallest leaf is left to `forest_leaf`, 5 on these events; 1 (the library's): -14 (4) | -12 (3). All events for
# each tree: +1 (3) | +2 (2) at 1.7 times the time. 100 trees instead of 200: -3.7 ± 1.8 | -6.7 ± 1.4.
_FOREST = {"max_features": "sqrt", "max_samples": 0.5}
RANDOM_FOREST = {
    "quick": Preset({**_FOREST, "n_estimators": 60}, **RAW),
    "good": Preset({**_FOREST, "n_estimators": 200}, **RAW),
    "best": Preset({**_FOREST, "n_estimators": 400}, **PHYSICS),
}

_CATBOOST = {"border_count": 64, "boosting_type": "Plain", "bootstrap_type": "Bernoulli", "subsample": 0.7}
# border_count 254 (the default) +4 (4) | +2 (2) at twice the time; MVS sampling of .8: -1 (4) | -6 (3); learning_rate
# left to the library: +5 (3) | +3 (2) at 1.3 times the time; 1000 rounds without early stopping: -42 (8) | -15 (4) at 3
# times the time, 400 of them: +3 (5) | +4 (3).
# 3 to 5 times faster than the library's defaults at the same AUC (-.0004 (6) against 800 iterations of the defaults).
CATBOOST = {
    "quick": Preset({**_CATBOOST, "iterations": 150, "depth": 6, "learning_rate": 0.1}, **RAW),
    "good": Preset({**_CATBOOST, "iterations": 400, "depth": 6, "learning_rate": 0.06}, **RAW),
    "best": Preset({**_CATBOOST, **_STOPPED, "iterations": 3000, "depth": 6, "learning_rate": 0.06, BAG: 3}, **PHYSICS),
}

# A bag of 3: +9 (2) | +9 (1). max_depth 6 (the default) +3 (2) | +4 (1): no more than other seeds; learning_rate 0.3:
# -42 (5) | -18 (3); min_child_weight 1: +3 (4) | -1 (2), no difference; colsample_bytree 1: -11 (3) | -3 (2); 100
# rounds: -17 (6) | -34 (4). A fixed 450 rounds on all events beat a lone member that stops early, +5 (3) | +7 (2): it
# puts a tenth of the events aside, which the bag makes up for (quality.md: the early-stopped bag of LightGBM is 5 (2)
# ahead of a fixed one).
_XGBOOST = {"max_depth": 5, "learning_rate": 0.03, "min_child_weight": 50, "colsample_bytree": 0.5}
XGBOOST = {
    "quick": Preset({"n_estimators": 120, "max_depth": 5, "learning_rate": 0.1, "min_child_weight": 20}, **RAW),
    "good": Preset({**_XGBOOST, "n_estimators": 450}, **RAW),
    "best": Preset({**_XGBOOST, **_STOPPED, "n_estimators": 3000, BAG: 3}, **PHYSICS),
}

_LIGHTGBM = {
    "num_leaves": 16,
    "learning_rate": 0.03,
    "min_child_samples": 50,
    "colsample_bytree": 0.5,
    "subsample": 0.8,
    "subsample_freq": 1,
}
LIGHTGBM = {
    "quick": Preset({"n_estimators": 120, "num_leaves": 15, "learning_rate": 0.1}, **RAW),
    "good": Preset({**_LIGHTGBM, "n_estimators": 400}, **RAW),
    # The members share their bins (models/bins.py): 7% less time at the same AUC. A bag of 4: +9 (2) | +8 (1).
    # num_leaves 31 (the default): -4 (3) | 0 (2), 8: -4 (3) | -3 (2); learning_rate .1: -14 (4) | -15 (3), .02: +1 (2)
    # | +4 (1) at 1.3 times the time; min_child_samples 20: -1 (2) | +2 (1); colsample_bytree 1: -14 (3) | -1 (2); no
    # subsample: -6 (3) | -5 (2); 100 rounds: -13 (6) | -31 (4); early stopping after 20 rounds +2 (1) | +2 (1), after
    # 100 -1 (1) | -9 (1); validation_fraction .05: +3 (3) | 0 (2), .2: -3 (3) | +3 (2). In earlier trials the rest was
    # flat: one seed with 400 rounds gave .9299; 8 leaves and 600 rounds .9300, a third of the columns .9303, half of
    # the events .9291, reg_lambda 20 .9301, min_child_samples 150 .9298.
    "best": Preset({**_LIGHTGBM, **_STOPPED, "n_estimators": 3000, BAG: 4}, **PHYSICS),
}

MLP = {
    "quick": Preset({"hidden_layer_sizes": [64], "alpha": 0.1, "max_iter": 6, "batch_size": 128}, **RAW),
    "good": Preset({BAG: 4, "hidden_layer_sizes": [96, 96], "alpha": 0.3, "max_iter": 8, "batch_size": 128}, **RAW),
    # One layer of 100 (the default): -34 (7) | -30 (5); alpha .0001: -5 (1) | -3 (1); 40 epochs: -80 (9) | -3 (4), the
    # default of 200 is dearer still; batches of 200: 0 (2) | -3 (1); learning_rate_init .001: -7 (3) | +2 (2);
    # quantiles instead of clipping: -11 (6) | -8 (3). More in docs/networks.md. More than 8 epochs overfit, smooth
    # clipping beats normal quantiles by about .0015, wider layers and larger batches at twice the rate are better and
    # faster than the setting of `good`.
    "best": Preset(
        {
            BAG: 8,
            "hidden_layer_sizes": [128, 128],
            "alpha": 0.1,
            "max_iter": 8,
            "batch_size": 256,
            "learning_rate_init": 0.002,
            "scaling": "clip",
        },
        **MOMENTA,
    ),
}


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
