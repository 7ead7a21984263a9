"""The models that come with higgsbench: each module here has the models of one library in a tuple `MODELS`.

The registry finds the modules by itself, and imports their libraries only when an estimator is built. This file holds
what several models share.

`quick` is for a first look, `good` for a fair comparison on the columns as they are in the file, `best` for the
highest discovery power. `results/reference/choices.md` has the reasons for each value, with figures.
"""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

RAW: dict[str, Any] = {"training_weights": "balanced", "features": "raw"}
"""For a fair comparison: the same columns and weights for all models."""

PHYSICS: dict[str, Any] = {"training_weights": "sqrt_balanced", "features": "physics"}
"""For trees: quantities that a physicist would look at, and square roots of the weights, which leave more events."""

MOMENTA: dict[str, Any] = {"training_weights": "sqrt_balanced", "features": "momenta"}
"""For networks, which learn angles and masses from momentum vectors in one frame."""

STOPPED: dict[str, Any] = {"early_stopping_rounds": 50, "validation_fraction": 0.1}
"""The right number of rounds grows with the events: held-out ones decide it, different ones in each member of a bag."""

LOG = {"log": True}
"""A parameter that is tuned on a logarithmic scale."""


def parameter_names(module: str, name: str, *more: str) -> frozenset[str]:
    """Return the parameter names of a class with scikit-learn's interface, and more."""
    return frozenset({*getattr(importlib.import_module(module), name)().get_params(), *more})


def tuned(**rows: tuple[Any, ...]) -> dict[str, Any]:
    """Return the keys `search_space` and `defaults` of a model's record.

    Args:
        rows: per parameter the library's default (None where it has none), then the bounds, perhaps with options of
            Optuna's distribution, or a list of choices.
    """
    defaults = {name: row[0] for name, row in rows.items() if row[0] is not None}
    return {"search_space": functools.partial(_distributions, rows), "defaults": defaults}


def _distributions(rows: Mapping[str, tuple[Any, ...]]) -> dict[str, Any]:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    found: dict[str, Any] = {}
    for name, (_, low, *more) in rows.items():
        if isinstance(low, list):
            found[name] = CategoricalDistribution(low)
        else:
            number = IntDistribution if isinstance(low, int) else FloatDistribution
            found[name] = number(low, more[0], **dict(*more[1:]))
    return found
