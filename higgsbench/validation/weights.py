"""Training weights: a configuration choice, kept apart from the evaluation weights of `higgsbench.metrics`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from higgsbench.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["PROPORTIONAL", "TRAINING_WEIGHTS", "TrainingWeights", "training_weights", "without_negative"]

TrainingWeights = Literal["balanced", "sqrt_balanced", "physical", "none"]
TRAINING_WEIGHTS: tuple[str, ...] = get_args(TrainingWeights)
PROPORTIONAL = frozenset({"balanced", "physical"})
"""Schemes proportional to the evaluation weights within a class: these leave the density ratio as it is, so that a
shift of the prior restores physical log-odds. The others need a recalibration."""


def training_weights(y: NDArray[np.bool_], evaluation: NDArray[np.float64], scheme: str) -> NDArray[np.float64]:
    """Make training weights of mean 1 out of evaluation weights.

    Args:
        y: (n,) truth, True for signal.
        evaluation: (n,) evaluation weights.
        scheme: `balanced` (class totals equal), `sqrt_balanced` (square root of the weights, then class totals
            equal: fewer extreme weights, more effective events), `physical` (as they are) or `none` (all one).

    Returns:
        (n,) weights whose mean is 1: raw signal weights of about 0.0015 would fall under library defaults such as
        min_child_weight.

    Raises:
        ConfigError: if the scheme is not known or the weights of a class sum to zero.
    """
    if scheme not in TRAINING_WEIGHTS:
        raise ConfigError(f"training_weights: {scheme!r} is not one of {', '.join(TRAINING_WEIGHTS)}")
    if scheme == "none":
        return np.ones(y.size)
    w = np.sqrt(evaluation) if scheme == "sqrt_balanced" else evaluation.astype(np.float64, copy=True)
    if scheme != "physical":
        for members in (y, ~y):
            total = float(np.sum(w[members]))
            if not total > 0.0:
                raise ConfigError("training_weights: balancing needs weights of both classes with a positive sum")
            w[members] /= total
    return w * (y.size / float(np.sum(w)))


def without_negative(weight: NDArray[np.float64], policy: str | None) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Make signed evaluation weights fit for training.

    Args:
        weight: (n,) evaluation weights, some perhaps negative.
        policy: `drop`, `absolute` or `zero`; None where negative weights are not expected.

    Returns:
        (n,) weights that are not negative, and (n,) whether each event trains.

    Raises:
        ConfigError: if there are negative weights and no policy, or the policy is not known.
    """
    if policy not in (None, "drop", "absolute", "zero"):
        raise ConfigError(f"negative_weights: {policy!r} is not one of drop, absolute, zero")
    negative = weight < 0.0
    if not negative.any():
        return weight, np.ones(weight.size, dtype=np.bool_)
    if policy is None:
        raise ConfigError(
            f"negative_weights: {int(negative.sum())} events have negative weights; choose drop, absolute or zero"
        )
    if policy == "absolute":
        return np.abs(weight), np.ones(weight.size, dtype=np.bool_)
    return np.maximum(weight, 0.0), ~negative if policy == "drop" else np.ones(weight.size, dtype=np.bool_)
