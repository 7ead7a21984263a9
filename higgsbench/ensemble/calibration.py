"""Two-parameter logit recalibration of stored scores, fitted out of fold, per jet group where the model was split."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from higgsbench.ensemble.logistic import bounded, clipped, fit_logistic
from higgsbench.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["apply_recalibration", "cross_fitted_recalibration", "fit_recalibration"]


def fit_recalibration(
    score: NDArray[np.float64],
    y: NDArray[np.bool_],
    w: NDArray[np.float64],
    part: NDArray[np.int64],
    parts: int | None = None,
) -> NDArray[np.float64]:
    """Fit slope and intercept of ln(N_s p(f|s) / N_b p(f|b)) = a f + c by weighted logistic regression.

    Inside each part the classes are balanced for the fit, and the part's own ln(N_s,part / N_b,part) is added to the
    intercept, so that parts end on one common scale.

    Args:
        score: (n,) log-odds.
        y: (n,) truth.
        w: (n,) evaluation weights.
        part: (n,) index of the jet group, all 0 for a global model.
        parts: number of groups; as many as occur when None.

    Returns:
        (parts, 2) slope and intercept per part.

    Raises:
        ConfigError: if a part has only one class.
    """
    out = np.empty((int(part.max()) + 1 if parts is None else parts, 2))
    for index in range(out.shape[0]):
        rows = part == index
        yr, wr = y[rows], w[rows]
        n_s, n_b = float(np.sum(wr[yr])), float(np.sum(wr[~yr]))
        if not (n_s > 0.0 and n_b > 0.0):
            raise ConfigError("calibration: a jet group has only one class; use calibration: prior or fewer groups")
        prior = float(np.log(n_s / n_b))
        balanced = np.maximum(np.where(yr, wr / n_s, wr / n_b), 0.0)
        coefficient, intercept = fit_logistic(clipped(score[rows])[:, None] - prior, yr, balanced)
        slope = float(coefficient[0])
        out[index] = slope, intercept + prior - slope * prior
    return out


def apply_recalibration(
    score: NDArray[np.float64], part: NDArray[np.int64], parameters: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return slope * score + intercept with the parameters of each event's part."""
    recalibrated: NDArray[np.float64] = parameters[part, 0] * bounded(score) + parameters[part, 1]
    return recalibrated


def cross_fitted_recalibration(
    score: NDArray[np.float64],
    y: NDArray[np.bool_],
    w: NDArray[np.float64],
    part: NDArray[np.int64],
    fold: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Recalibrate each fold with parameters fitted on the out-of-fold scores of the other folds; shape (n,)."""
    out = np.empty_like(score)
    parts = int(part.max()) + 1
    for k in range(int(fold.max()) + 1):
        held_out = fold == k
        rest = ~held_out
        parameters = fit_recalibration(score[rest], y[rest], w[rest], part[rest], parts)
        out[held_out] = apply_recalibration(score[held_out], part[held_out], parameters)
    return out
