"""Standard errors from event-level influence values, so that any two estimates on the same events can be paired.

An `Estimate` carries, besides its value, what each event contributes to its deviation (the empirical influence
function, also called infinitesimal jackknife; Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter
21). The variance of an estimate is the sum of squares; the variance of a difference of two estimates on the same
events is the sum of squared differences, which is what makes a comparison paired.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from higgsbench.errors import MetricError
from higgsbench.metrics._arrays import checked_labels, checked_selection, checked_weights
from higgsbench.metrics.ams import ams, ams_gradient
from higgsbench.metrics.resampling import poisson_counts
from higgsbench.schema import B_REG

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = ["Estimate", "ams_estimate", "bootstrap_ams", "mean_estimate", "paired_difference"]


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
