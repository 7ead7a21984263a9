"""The models that come with higgsbench: each module here defines one model in a tuple `MODELS`.

The registry finds the modules by itself, and imports their libraries only when an estimator is built. This file holds
what several models share.

`quick` is for a first look, `good` for a fair comparison on the columns as they are in the file, `best` for the
highest discovery power. `results/reference/choices.md` has the reasons for each value, with figures.
"""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["FLAGGED", "MOMENTA", "PHYSICS", "RAW", "STOPPED", "parameter_names"]

RAW: dict[str, Any] = {"training_weights": "balanced", "features": "raw"}
"""For a fair comparison: the same columns and weights for all models."""

PHYSICS: dict[str, Any] = {"training_weights": "sqrt_balanced", "features": "physics"}
"""For trees: quantities that a physicist would look at, and square roots of the weights, which leave more events."""

MOMENTA: dict[str, Any] = {"training_weights": "sqrt_balanced", "features": "momenta"}
"""For networks, which learn angles and masses from momentum vectors in one frame."""

STOPPED: dict[str, Any] = {"early_stopping_rounds": 50, "validation_fraction": 0.1}
"""The right number of rounds grows with the events: a part of them decides, another part in each member of a bag."""

FLAGGED = 1.4
"""Columns after the imputation with missing flags, for each before it."""


def parameter_names(module: str, name: str, *more: str) -> frozenset[str]:
    """Return the parameter names of a class with scikit-learn's interface, and more."""
    return frozenset({*getattr(importlib.import_module(module), name)().get_params(), *more})
