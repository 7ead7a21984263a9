"""Tests: paired differences, many comparisons at once, and agreement of two weighted samples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from higgsbench.errors import MetricError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from higgsbench.metrics.weights import Bools, Floats


@dataclass(frozen=True)
class Difference:
    """A difference with its standard error and the ends of its 95% interval.

    The p-value is the two-sided probability of a difference at least this large between equal models; NaN where the
    error is not known.
    """

    value: float
    se: float
    low: float
    high: float
    p_value: float


def difference_of(value: float, se: float, degrees: float = np.inf) -> Difference:
    """Judge a difference by its standard error and the degrees of freedom of that error (Student's t)."""
    from scipy.stats import t

    if se < 0.0 or not degrees > 0.0:
        raise MetricError(f"a standard error of {se} with {degrees} degrees of freedom is not possible")
    if not (np.isfinite(value) and np.isfinite(se)):
        return Difference(float(value), float(se), np.nan, np.nan, np.nan)
    reach = float(t.ppf(0.975, degrees)) * se
    ratio = abs(value) / se if se > 0.0 else (0.0 if value == 0.0 else np.inf)
    return Difference(float(value), float(se), value - reach, value + reach, float(2.0 * t.sf(ratio, degrees)))


def effective_degrees(influence: Floats) -> float:
    """Return the degrees of freedom of a variance that is a sum of squared influence values, 2 (sum i^2)^2 / sum i^4.

    The variance is itself estimated from few events where weights are heavy or two selections nearly agree: with a
    Poisson number of events its own variance is sum i^4, and a chi-square of d degrees has relative variance 2 / d
    (F. Satterthwaite, Biometrics Bulletin 2 (1946) 110). The result is at least 1, and infinite where nothing varies.
    """
    squares = influence**2
    with np.errstate(invalid="ignore", over="ignore"):
        fourth = float(np.sum(squares**2))
        degrees = 2.0 * float(np.sum(squares)) ** 2 / fourth if fourth > 0.0 else np.inf
    return max(degrees, 1.0) if np.isfinite(degrees) else np.inf


def corrected_resampled_t(differences: ArrayLike, test_share: float) -> Difference:
    """Corrected resampled t-test over the folds of one or several cross-validations.

    Folds share training events, so their scatter understates the error of the mean; the variance is multiplied by
    1/J + n_test/n_train instead of 1/J (C. Nadeau and Y. Bengio, Machine Learning 52 (2003) 239, section 5; for
    repeated cross-validation R. Bouckaert and E. Frank, PAKDD 2004). Unlike an event bootstrap, it accounts for the
    variation of models trained on other events.

    Args:
        differences: (J,) difference of the two models on each of at least two test folds.
        test_share: n_test / n_train, 1 / (folds - 1) in a cross-validation.
    """
    d = np.asarray(differences, dtype=np.float64)
    if d.ndim != 1 or d.size < 2 or not np.isfinite(d).all() or not 0.0 < test_share < np.inf:
        raise MetricError("the corrected resampled t-test needs finite differences on two folds and a positive share")
    variance = (1.0 / d.size + test_share) * float(np.var(d, ddof=1))
    return difference_of(float(np.mean(d)), float(np.sqrt(variance)), d.size - 1)


def holm(p_values: ArrayLike) -> Floats:
    """Adjust p-values (m,) of m tests so that any false positive among them has the stated probability.

    S. Holm, Scandinavian Journal of Statistics 6 (1979) 65: the i-th smallest times m - i + 1, monotone and at most 1.
    NaN (no test possible) stays NaN and does not count as a test.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or ((p < 0.0) | (p > 1.0)).any():
        raise MetricError("p-values must be a list of numbers between 0 and 1")
    order = np.argsort(p, kind="stable")[: p.size - np.isnan(p).sum()]  # NaN sorts last
    out = np.full(p.shape, np.nan)
    out[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(order.size, 0, -1)), 1.0)
    return out


def indistinct_groups(apart: Bools) -> tuple[tuple[int, ...], ...]:
    """Group neighbours in rank that are pairwise indistinguishable: the bars of a critical-difference diagram.

    Args:
        apart: (m, m) whether two can be told apart, best rank first.

    Returns:
        Maximal groups of at least two, best group first. Groups may overlap: being indistinct is not transitive.
    """
    groups: list[tuple[int, ...]] = []
    reached = 0
    for first in range(len(apart)):
        last = first
        while last + 1 < len(apart) and not apart[last + 1, first : last + 1].any():
            last += 1
        if last > first and last + 1 > reached:
            groups.append(tuple(range(first, last + 1)))
            reached = last + 1
    return tuple(groups)


def ks_distance(x: Floats, x_weight: Floats, y: Floats, y_weight: Floats) -> float:
    """Return the largest distance between the cumulative distributions of weighted samples, (n,) and (m,) values."""
    totals = float(np.sum(x_weight)), float(np.sum(y_weight))
    if not min(totals) > 0.0:
        raise MetricError(f"a Kolmogorov-Smirnov distance needs positive sums of weights, got {totals}")
    values, place = np.unique(np.concatenate([x, y]), return_inverse=True)
    share = np.concatenate([x_weight / totals[0], -y_weight / totals[1]])
    return float(np.max(np.abs(np.cumsum(np.bincount(place, share, minlength=values.size)))))


def ks_p_value(distance: float, effective: float, other: float) -> float:
    """Return the asymptotic p-value of a Kolmogorov-Smirnov test (Stephens' correction for finite samples).

    Weighted samples count with their effective numbers of events, which is an approximation.
    """
    from scipy.special import kolmogorov

    n = math.sqrt(effective * other / (effective + other))
    return float(kolmogorov((n + 0.12 + 0.11 / n) * distance))


def chi2_of_shapes(a: Floats, a_variance: Floats, b: Floats, b_variance: Floats) -> tuple[float, int, float]:
    """Return chi-squared, degrees of freedom and p-value of the shapes of two weighted histograms in the same bins.

    Bins in which neither has events do not count; the common normalisation takes one degree of freedom. The sum
    follows a chi-squared distribution if bins hold many events (Gagunashvili, Nucl. Instrum. Meth. A 614 (2010) 287).
    With no degrees of freedom the result is (0.0, 0, 1.0). Histograms are sums (k,) of weights, variances sums of their
    squares.
    """
    from scipy.special import chdtrc

    totals = float(np.sum(a)), float(np.sum(b))
    if not min(totals) > 0.0:
        raise MetricError(f"a chi-squared of shapes needs histograms with positive sums, got {totals}")
    variance = a_variance / totals[0] ** 2 + b_variance / totals[1] ** 2
    used = variance > 0.0
    freedom = int(used.sum()) - 1
    if freedom < 1:
        return 0.0, 0, 1.0
    chi2 = float(np.sum((a / totals[0] - b / totals[1])[used] ** 2 / variance[used]))
    return chi2, freedom, float(chdtrc(freedom, chi2))
