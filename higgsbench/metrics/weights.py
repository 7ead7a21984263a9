"""Evaluation weights: the one normalisation under which every printed metric is computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from higgsbench.errors import MetricError
from higgsbench.metrics._arrays import checked_labels, checked_weights

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["effective_sample_size", "evaluation_weights"]

_TINY = 1e-280


def evaluation_weights(
    y_true: ArrayLike, sample_weight: ArrayLike | None, n_s: float, n_b: float
) -> NDArray[np.float64]:
    """Rescale weights per class so that the class sums equal the reference totals.

    A subset of the events (a fold, a test set) must represent the whole expectation before its AMS means anything:
    AMS grows like the square root of the totals.

    Args:
        y_true: (n,) truth, 1 or True for signal.
        sample_weight: (n,) weights as stored with the events.
        n_s: reference total of signal, expected events.
        n_b: reference total of background, expected events.

    Returns:
        (n,) weights whose signal sum is n_s and whose background sum is n_b.

    Raises:
        MetricError: if a class is absent or its weights do not sum to a positive number, or a reference total is
            not a positive number.
    """
    for name, total in (("n_s", n_s), ("n_b", n_b)):
        if not 0.0 < total < np.inf:
            raise MetricError(f"{name} must be a positive number, got {total}")
    y = checked_labels(y_true)
    w = checked_weights(sample_weight, y.size)
    out = np.empty_like(w)
    for name, members, total in (("signal", y, n_s), ("background", ~y, n_b)):
        have = float(np.sum(w[members]))
        if not members.any() or not have > 0.0:
            raise MetricError(
                f"no {name} to weigh: {int(members.sum())} {name} events with total weight {have} in {y.size} events"
            )
        own = w[members]
        if have < _TINY:  # the factor would be beyond the largest number
            own = own / np.max(np.abs(own))
            have = float(np.sum(own))
        out[members] = own * (total / have)
        # A second step brings the sum to the total within rounding even for strongly varying weights.
        out[members] *= total / float(np.sum(out[members]))
    return out


def effective_sample_size(sample_weight: ArrayLike | None) -> float:
    """Kish's effective number of events, (sum w)^2 / sum w^2 (L. Kish, Survey Sampling, 1965, section 11.7).

    Raises:
        MetricError: if weights are missing or not finite.
    """
    w = checked_weights(sample_weight, 0 if sample_weight is None else np.size(sample_weight))
    squares = float(np.sum(w**2))
    return float(np.sum(w)) ** 2 / squares if squares > 0.0 else 0.0
