"""Is a difference between two models on the same events more than chance: p-values and intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from higgsbench.errors import MetricError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Difference", "corrected_resampled_t", "difference_of", "effective_degrees"]


@dataclass(frozen=True)
class Difference:
    """A difference with its error.

    Attributes:
        value: the difference.
        se: its standard error.
        low: lower end of the 95% interval, high: its upper end.
        p_value: two-sided probability of a difference at least this large between equal models; NaN where the error
            is not known.
    """

    value: float
    se: float
    low: float
    high: float
    p_value: float


def difference_of(value: float, se: float, degrees: float = np.inf) -> Difference:
    """Judge a difference by its standard error.

    Args:
        value: the difference.
        se: its standard error; 0 for scores that are equal event by event.
        degrees: degrees of freedom of the error (Student's t); infinite for the normal distribution.

    Raises:
        MetricError: if the error is negative or there is no degree of freedom.
    """
    from scipy.stats import t

    if se < 0.0 or not degrees > 0.0:
        raise MetricError(f"a standard error of {se} with {degrees} degrees of freedom is none")
    if not (np.isfinite(value) and np.isfinite(se)):
        return Difference(float(value), float(se), np.nan, np.nan, np.nan)
    reach = float(t.ppf(0.975, degrees)) * se
    ratio = abs(value) / se if se > 0.0 else (0.0 if value == 0.0 else np.inf)
    p = float(2.0 * t.sf(ratio, degrees))
    return Difference(float(value), float(se), value - reach, value + reach, p)


def effective_degrees(influence: NDArray[np.float64]) -> float:
    """Degrees of freedom of a variance that is a sum of squared influence values, 2 (sum i^2)^2 / sum i^4.

    The variance is itself estimated from few events where weights are heavy or two selections nearly agree: with a
    Poisson number of events its own variance is sum i^4, and a chi-square of d degrees has relative variance 2 / d
    (F. Satterthwaite, Biometrics Bulletin 2 (1946) 110).

    Args:
        influence: (n,) influence values of an estimate, or the difference of two.

    Returns:
        At least 1; infinite where nothing varies.
    """
    squares = influence**2
    with np.errstate(invalid="ignore", over="ignore"):
        fourth = float(np.sum(squares**2))
        degrees = 2.0 * float(np.sum(squares)) ** 2 / fourth if fourth > 0.0 else np.inf
    return max(degrees, 1.0) if np.isfinite(degrees) else np.inf


def corrected_resampled_t(differences: ArrayLike, test_share: float) -> Difference:
    """Corrected resampled t-test over the folds of one or several cross-validations.

    Folds share training events, so that their scatter understates the error of the mean; the variance is multiplied by
    1/J + n_test/n_train instead of 1/J (C. Nadeau and Y. Bengio, Machine Learning 52 (2003) 239, section 5; for
    repeated cross-validation R. Bouckaert and E. Frank, PAKDD 2004). Unlike an event bootstrap it sees that models
    trained on other events would be other models.

    Args:
        differences: (J,) difference of the two models on each of J test folds.
        test_share: n_test / n_train, 1 / (folds - 1) in a cross-validation.

    Raises:
        MetricError: with fewer than two folds, a value that is not finite, or a share that is not positive.
    """
    d = np.asarray(differences, dtype=np.float64)
    if d.ndim != 1 or d.size < 2 or not np.isfinite(d).all():
        raise MetricError("the corrected resampled t-test needs the finite differences of at least two folds")
    if not 0.0 < test_share < np.inf:
        raise MetricError(f"n_test / n_train must be a positive number, got {test_share}")
    variance = (1.0 / d.size + test_share) * float(np.var(d, ddof=1))
    return difference_of(float(np.mean(d)), float(np.sqrt(variance)), d.size - 1)
