"""Weighted ROC AUC and log-loss as estimates with event-level influence values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from higgsbench.errors import MetricError
from higgsbench.metrics._arrays import checked_labels, checked_scores, checked_weights
from higgsbench.metrics.uncertainty import Estimate

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["log_loss", "roc_auc", "softplus"]


def softplus(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """ln(1 + exp(x)) without overflow."""
    return np.logaddexp(0.0, x)


def roc_auc(y_true: ArrayLike, score: ArrayLike, sample_weight: ArrayLike | None) -> Estimate:
    """Weighted area under the ROC curve, ties counted half, with its influence values.

    The influence of an event is its weight share times the deviation of its placement value from the AUC (DeLong,
    DeLong and Clarke-Pearson, Biometrics 44 (1988) 837, in its weighted form).

    Args:
        y_true: (n,) truth, 1 or True for signal.
        score: (n,) score that grows with signal likeness.
        sample_weight: (n,) evaluation weights; only their ratios within a class matter.

    Returns:
        The estimate; its value is the probability that a signal event scores above a background event.

    Raises:
        MetricError: if a class is absent or its weights sum to zero, or the input is malformed.
    """
    y = checked_labels(y_true)
    score_ = checked_scores(score, y.size)
    w = checked_weights(sample_weight, y.size)
    total_s, total_b = float(np.sum(w[y])), float(np.sum(w[~y]))
    if total_s == 0.0 or total_b == 0.0:
        raise MetricError("the ROC AUC needs signal and background with a non-zero sum of weights")
    distinct, place = np.unique(score_, return_inverse=True)
    per_s = np.bincount(place[y], weights=w[y], minlength=distinct.size)
    per_b = np.bincount(place[~y], weights=w[~y], minlength=distinct.size)
    below_b = np.cumsum(per_b) - 0.5 * per_b  # background under each distinct score, ties half
    above_s = total_s - np.cumsum(per_s) + 0.5 * per_s
    value = float(np.sum(per_s * below_b)) / (total_s * total_b)
    placement = np.where(y, below_b[place] / total_b, above_s[place] / total_s)
    return Estimate(value, (placement - value) * w / np.where(y, total_s, total_b))


def log_loss(y_true: ArrayLike, log_odds: ArrayLike, sample_weight: ArrayLike | None) -> Estimate:
    """Weighted logistic loss of log-odds, per unit of weight, in nats.

    With evaluation weights and log-odds in physical normalisation this is the proper scoring rule of the physical
    posterior ln(N_s p(x|s) / N_b p(x|b)). The influence holds the class totals fixed.

    Args:
        y_true: (n,) truth.
        log_odds: (n,) log-odds; an infinity on the wrong side makes the loss infinite.
        sample_weight: (n,) evaluation weights.

    Returns:
        The estimate; lower is better.

    Raises:
        MetricError: if the weights do not sum to a positive number or the input is malformed.
    """
    y = checked_labels(y_true)
    f = checked_scores(log_odds, y.size)
    w = checked_weights(sample_weight, y.size)
    total = float(np.sum(w))
    if not total > 0.0:
        raise MetricError(f"the log-loss needs a positive sum of weights, got {total}")
    loss = np.where(w != 0.0, softplus(np.where(y, -f, f)), 0.0)  # an event without weight costs nothing
    value = float(np.sum(w * loss)) / total
    if not np.isfinite(value):
        return Estimate(value, np.where(w != 0.0, np.inf, 0.0))
    deviation = np.zeros_like(loss)
    for members in (y, ~y):
        weight = float(np.sum(w[members]))
        if weight != 0.0:
            deviation[members] = loss[members] - float(np.sum(w[members] * loss[members])) / weight
    return Estimate(value, w * deviation / total)
