"""Whether two weighted samples agree: Kolmogorov-Smirnov and chi-squared."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from higgsbench.errors import MetricError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["chi2_of_shapes", "ks_distance", "ks_p_value"]


def ks_distance(
    x: NDArray[np.float64], x_weight: NDArray[np.float64], y: NDArray[np.float64], y_weight: NDArray[np.float64]
) -> float:
    """Largest distance of the weighted cumulative distributions of two samples.

    Args:
        x: (n,) values of the first sample.
        x_weight: (n,) their weights.
        y: (m,) values of the second sample.
        y_weight: (m,) their weights.

    Raises:
        MetricError: if the weights of a sample do not sum to a positive number.
    """
    totals = float(np.sum(x_weight)), float(np.sum(y_weight))
    if not min(totals) > 0.0:
        raise MetricError(f"a Kolmogorov-Smirnov distance needs positive sums of weights, got {totals}")
    values, place = np.unique(np.concatenate([x, y]), return_inverse=True)
    share = np.concatenate([x_weight / totals[0], -y_weight / totals[1]])
    return float(np.max(np.abs(np.cumsum(np.bincount(place, share, minlength=values.size)))))


def ks_p_value(distance: float, effective: float, other: float) -> float:
    """Asymptotic p-value of a two-sample Kolmogorov-Smirnov test (Stephens' correction for finite samples).

    Weighted samples count with their effective numbers of events, which is an approximation.

    Args:
        distance: the Kolmogorov-Smirnov distance.
        effective: effective number of events of one sample.
        other: effective number of events of the other.
    """
    from scipy.special import kolmogorov

    n = math.sqrt(effective * other / (effective + other))
    return float(kolmogorov((n + 0.12 + 0.11 / n) * distance))


def chi2_of_shapes(
    a: NDArray[np.float64],
    a_variance: NDArray[np.float64],
    b: NDArray[np.float64],
    b_variance: NDArray[np.float64],
) -> tuple[float, int, float]:
    """Chi-squared of the shapes of two weighted histograms in the same bins.

    Bins in which neither has events do not count; the common normalisation takes one degree of freedom. The number is
    chi-squared distributed where bins hold many events (Gagunashvili, Nucl. Instrum. Meth. A 614 (2010) 287).

    Args:
        a: (k,) sums of weights of one histogram.
        a_variance: (k,) sums of squared weights.
        b: (k,) sums of weights of the other histogram.
        b_variance: (k,) sums of squared weights.

    Returns:
        Chi-squared, degrees of freedom, p-value; with no degree of freedom (0.0, 0, 1.0).

    Raises:
        MetricError: if a histogram does not sum to a positive number.
    """
    totals = float(np.sum(a)), float(np.sum(b))
    if not min(totals) > 0.0:
        raise MetricError(f"a chi-squared of shapes needs histograms with positive sums, got {totals}")
    from scipy.special import chdtrc

    variance = a_variance / totals[0] ** 2 + b_variance / totals[1] ** 2
    used = variance > 0.0
    freedom = int(used.sum()) - 1
    if freedom < 1:
        return 0.0, 0, 1.0
    chi2 = float(np.sum((a / totals[0] - b / totals[1])[used] ** 2 / variance[used]))
    return chi2, freedom, float(chdtrc(freedom, chi2))
