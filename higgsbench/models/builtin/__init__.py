"""The models that come with higgsbench: each module here holds all that is known of one, in a tuple `MODELS`.

The registry finds the modules by itself, and imports no library of theirs until an estimator is built. What several of
them share stands here.

`quick` is for a first look, `good` for a fair comparison on the columns as they are in the file, `best` for the
highest discovery power. Where a preset differs from a library's default, the measured reason is beside it. Figures are
weighted AUC on 15,000 real events, 5 folds out of fold, seeds 42 and 43, with paired errors, unless said otherwise;
`results/reference/quality.md` has the table. `results/reference/presets.md` puts single values back to the library's
defaults. Its figures are quoted as "real | simulated", changed minus preset in units of .0001 with errors in brackets,
for members alone. They come from the events that the presets were chosen on, and other seeds of the models alone move
a line by up to 7 | 4. No value was chosen by that table.
"""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["FLAGGED", "MOMENTA", "PHYSICS", "RAW", "STOPPED", "parameter_names"]

RAW: dict[str, Any] = {"training_weights": "balanced", "features": "raw"}
"""A common footing: the same columns and weights for all."""

PHYSICS: dict[str, Any] = {"training_weights": "sqrt_balanced", "features": "physics"}
"""For trees: the physics features give +.0020 (8). Square roots of the weights give the same AUC and .02 to .12 more
AMS over selections of 10 to 20%, because they leave more effective events."""

MOMENTA: dict[str, Any] = {"training_weights": "sqrt_balanced", "features": "momenta"}
"""For networks, which learn angles and masses from momentum vectors in one frame."""

STOPPED: dict[str, Any] = {"early_stopping_rounds": 50, "validation_fraction": 0.1}
"""The right number of rounds grows with the events (150 to 200 on 12,000 simulated ones, 440 to 580 on 50,000, at a
rate of 0.03), so a part of the training events decides, another part in each member of the bag."""

FLAGGED = 1.4
"""Columns after the imputation with missing flags, for each before it."""


def parameter_names(module: str, name: str) -> frozenset[str]:
    """Return the parameter names of a class with scikit-learn's interface."""
    return frozenset(getattr(importlib.import_module(module), name)().get_params())
