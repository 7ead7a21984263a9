"""Weighted logistic fits on a few log-odds columns: the one optimiser behind recalibration and blends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from higgsbench.metrics.classification import softplus

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["bounded", "clipped", "fit_logistic"]

SCORE_LIMIT = 50.0
"""Log-odds beyond this are as good as certain; fits see them clipped so that an infinite score cannot break them."""

INFINITE_SCORE = 1e6
"""What an infinite score counts in a blend: beyond every other, yet 0 times it is 0."""


def clipped(scores: NDArray[np.float64], prior: float = 0.0) -> NDArray[np.float64]:
    """Return scores less a prior, within +-50."""
    less = scores - prior
    return np.clip(less, -SCORE_LIMIT, SCORE_LIMIT, out=less)


def bounded(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return scores with infinities at +-1e6, so that no product or sum of them is undefined; others as they are."""
    return np.nan_to_num(scores, nan=np.nan, posinf=INFINITE_SCORE, neginf=-INFINITE_SCORE)


def fit_logistic(
    F: NDArray[np.float64],
    y: NDArray[np.bool_],
    w: NDArray[np.float64],
    *,
    nonnegative: bool = False,
    l2: float = 0.0,
) -> tuple[NDArray[np.float64], float]:
    """Minimise sum w ln(1 + exp(-+(F c + a))) / sum w + l2 |c - 1/m|^2 over coefficients c and intercept a.

    Args:
        F: (n, m) log-odds, one column per member.
        y: (n,) truth.
        w: (n,) weights, not negative.
        nonnegative: whether coefficients are bounded below by 0.
        l2: pull towards the plain mean, which keeps nearly identical members from taking opposite coefficients.

    Returns:
        Coefficients (m,) and the intercept.
    """
    # Here, since the import takes longer than a command that fits nothing.
    from scipy.optimize import minimize
    from scipy.special import expit

    m = F.shape[1]
    share = w / np.sum(w)
    sign = np.where(y, -1.0, 1.0)
    # The optimiser's coefficients are those of columns of unit spread; scaling the columns themselves would copy them.
    # One that says the same of all events has none, and would reach numbers beyond the largest.
    deviation = np.array([column.std() for column in F.T])
    spread = np.where(deviation > 1e-9, deviation, 1.0)
    centre = spread / m

    def objective(theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        coefficients = theta[:m] / spread
        f = F @ coefficients + theta[m]
        pull = coefficients - 1.0 / m
        loss = float(np.sum(share * softplus(sign * f))) + l2 * float(np.sum(pull**2))
        slope = share * sign * expit(sign * f)
        return loss, np.append((F.T @ slope + 2.0 * l2 * pull) / spread, np.sum(slope))

    bounds = [(0.0, None) if nonnegative else (None, None)] * m + [(None, None)]
    start = np.append(centre, 0.0)
    found = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 500})
    return found.x[:m] / spread, float(found.x[m])
