"""Estimates of AMS, ROC AUC and log-loss with event-level influence values, and the event bootstrap."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from higgsbench.errors import MetricError
from higgsbench.metrics.ams import ams, ams_gradient
from higgsbench.metrics.weights import checked_labels, checked_scores, checked_selection, checked_weights
from higgsbench.schema import B_REG

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Estimate",
    "ams_estimate",
    "bootstrap_ams",
    "log_loss",
    "mean_estimate",
    "paired_difference",
    "poisson_counts",
    "roc_auc",
    "softplus",
]


_STEPS = 1 << 16
_AT_ONCE = 1 << 18
"""Numbers drawn at a time; even, for numpy takes two from one word, and parts are to be the same as the whole."""


def _table() -> NDArray[np.uint8]:
    """Poisson(1) number of each of 65,536 equally likely integers; the largest is 7."""
    below = np.cumsum([math.exp(-1.0) / math.factorial(k) for k in range(8)])
    edges = np.round(below * _STEPS)
    edges[-1] = _STEPS
    return np.searchsorted(edges, np.arange(_STEPS), side="right").astype(np.uint8)


_NUMBER_OF = _table()


def poisson_counts(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Draw independent Poisson(1) numbers, the large-sample form of resampling with replacement.

    By a table of 65,536 entries, several times faster than `Generator.poisson`: probabilities are right to 1e-5, the
    mean to 2e-5 and the variance to 3e-4; both are far below the error of an error from any affordable number of
    replicas.

    Args:
        rng: source of random numbers.
        shape: shape of the result.
    """
    out = np.empty(math.prod(shape), dtype=np.uint8)
    # Indices are widened to 8 bytes before they look anything up: 11 bytes per number, were all drawn at once.
    for first in range(0, out.size, _AT_ONCE):
        part = out[first : first + _AT_ONCE]
        np.take(_NUMBER_OF, rng.integers(0, _STEPS, size=part.size, dtype=np.uint16), out=part)
    return out.reshape(shape)


@dataclass(frozen=True)
class Estimate:
    """A metric's value with what each event contributes to its error.

    Attributes:
        value: the metric.
        influence: (n,) event-level influence values; their sum of squares is the variance of `value`.
    """

    value: float
    influence: NDArray[np.float64]

    @property
    def se(self) -> float:
        """Standard error from the finite number of events."""
        return float(np.sqrt(np.sum(self.influence**2)))

    def without_events(self) -> Estimate:
        """Return value and standard error without the events behind them; paired differences need these."""
        return Estimate(self.value, np.array([self.se]))


def paired_difference(a: Estimate, b: Estimate) -> tuple[float, float]:
    """Return a - b and its paired standard error.

    Raises:
        MetricError: if the two were not estimated on the same number of events.
    """
    if a.influence.shape != b.influence.shape:
        raise MetricError(f"a paired difference needs the same events: {a.influence.size} against {b.influence.size}")
    with np.errstate(invalid="ignore"):  # the difference of two infinite losses is not known
        deviation = a.influence - b.influence
    return a.value - b.value, float(np.sqrt(np.sum(deviation**2)))


def mean_estimate(estimates: Sequence[Estimate]) -> Estimate:
    """Average estimates on the same events (the repeats of a cross-validation).

    Repeats share their events, so the influence values are averaged event by event and the error does not shrink as
    if the repeats were independent samples.

    Raises:
        MetricError: if there is nothing to average.
    """
    if not estimates:
        raise MetricError("no estimates to average")
    return Estimate(
        value=float(np.mean([e.value for e in estimates])),
        influence=np.mean([e.influence for e in estimates], axis=0),
    )


def ams_estimate(
    y_true: ArrayLike, selected: ArrayLike, sample_weight: ArrayLike | None, b_reg: float = B_REG
) -> tuple[Estimate, float, float]:
    """AMS of a fixed selection, with event-level influence at fixed class totals.

    Delta method: s = N_s sum(w selected) / sum(w) over signal moves by w (selected - s / N_s) per event, b alike, and
    the AMS by its gradient. The choice of the cut is taken as given.

    Args:
        y_true: (n,) truth.
        selected: (n,) booleans, the selection.
        sample_weight: (n,) evaluation weights.
        b_reg: regularisation of the background.

    Returns:
        The estimate, the selected signal s and the selected background b.

    Raises:
        MetricError: for weights or labels that cannot be used, or negative s or b.
    """
    y = checked_labels(y_true)
    w = checked_weights(sample_weight, y.size)
    keep = checked_selection(selected, y.size)
    if keep.ndim != 1:
        raise MetricError(f"selected must be one-dimensional, got shape {keep.shape}")
    s = float(np.sum(w[keep & y]))
    b = float(np.sum(w[keep & ~y]))
    value = ams(s, b, b_reg)
    total_s, total_b = float(np.sum(w[y])), float(np.sum(w[~y]))
    by_s, by_b = (0.0, 0.0) if b + b_reg == 0.0 else (float(g[0]) for g in ams_gradient(s, b, b_reg))
    share_s = s / total_s if total_s else 0.0
    share_b = b / total_b if total_b else 0.0
    influence = w * np.where(y, by_s * (keep - share_s), by_b * (keep - share_b))
    return Estimate(value, influence), s, b


def bootstrap_ams(
    y_true: ArrayLike,
    selected: ArrayLike,
    sample_weight: ArrayLike | None,
    replicas: int,
    seed: int,
    b_reg: float = B_REG,
) -> NDArray[np.float64]:
    """Paired event bootstrap of the AMS of several fixed selections.

    Every replica weighs each event by an independent Poisson(1) number (the large-sample form of resampling with
    replacement; Hanley and MacGibbon, 2006), rescales the classes to their totals and applies all selections to the
    same replica, so that differences between columns are paired.

    Args:
        y_true: (n,) truth.
        selected: (n, m) booleans, one column per selection.
        sample_weight: (n,) evaluation weights.
        replicas: number of bootstrap replicas.
        seed: seed of the random numbers.
        b_reg: regularisation of the background.

    Returns:
        (replicas, m) AMS values.
    """
    y = checked_labels(y_true)
    w = checked_weights(sample_weight, y.size)
    keep = checked_selection(selected, y.size).reshape(y.size, -1)
    rng = np.random.default_rng(seed)
    sums = []
    for members in (y, ~y):
        columns = np.column_stack([w[members], w[members, None] * keep[members]])
        part = np.empty((replicas, columns.shape[1]))
        chunk = max(1, (1 << 22) // max(1, columns.shape[0]))
        for lo in range(0, replicas, chunk):
            hi = min(lo + chunk, replicas)
            counts = poisson_counts(rng, (hi - lo, columns.shape[0])).astype(np.float64)
            part[lo:hi] = counts @ columns
        total = float(np.sum(w[members]))
        scale = np.divide(total, part[:, :1], out=np.zeros((replicas, 1)), where=part[:, :1] != 0.0)
        sums.append(np.maximum(part[:, 1:] * scale, 0.0))
    return np.asarray(ams(sums[0], sums[1], b_reg))


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
