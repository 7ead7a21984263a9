"""Blends of stored log-odds: every method is a linear blend, so that its weights can be shown and stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from higgsbench.ensemble.logistic import bounded, clipped, fit_logistic
from higgsbench.errors import ConfigError
from higgsbench.metrics.classification import softplus
from higgsbench.metrics.weights import evaluation_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BLEND_METHODS", "Blend", "cross_fitted_blend", "fit_blend"]

_GREEDY_STEPS = 40
_RIDGE = 1e-4


@dataclass(frozen=True)
class Blend:
    """A fitted linear blend of log-odds in physical normalisation.

    Attributes:
        method: how the coefficients were found.
        members: labels of the members.
        coefficients: (m,) weight of each member.
        intercept: added to the weighted sum.
        prior: ln(N_s / N_b), taken off the members before and put back after blending.
    """

    method: str
    members: tuple[str, ...]
    coefficients: NDArray[np.float64]
    intercept: float
    prior: float

    def __call__(self, F: NDArray[np.float64]) -> NDArray[np.float64]:
        """Blend members' log-odds (n, m) to log-odds (n,)."""
        # Member by member and not as a matrix product, whose rounding depends on the number of rows: an event gets the
        # same score among others as alone.
        blended = np.full(F.shape[0], self.intercept + self.prior)
        for column, coefficient in zip(F.T, self.coefficients, strict=True):
            if coefficient != 0.0:
                blended += (bounded(column) - self.prior) * coefficient
        return blended


_Fit = Callable[
    ["NDArray[np.float64]", "NDArray[np.bool_]", "NDArray[np.float64]"], "tuple[NDArray[np.float64], float]"
]


def _mean(F: NDArray[np.float64], y: NDArray[np.bool_], w: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    return np.full(F.shape[1], 1.0 / F.shape[1]), 0.0


def _nonnegative(
    F: NDArray[np.float64], y: NDArray[np.bool_], w: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    return fit_logistic(F, y, w, nonnegative=True, l2=_RIDGE)


def _logistic(
    F: NDArray[np.float64], y: NDArray[np.bool_], w: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    return fit_logistic(F, y, w, l2=_RIDGE)


def _greedy(F: NDArray[np.float64], y: NDArray[np.bool_], w: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Forward selection with replacement (Caruana et al., ICML 2004): the best prefix of 40 greedy additions."""
    signed = np.where(y[:, None], -F, F)
    share = w / np.sum(w)
    total = np.zeros(F.shape[0])
    counts = np.zeros(F.shape[1])
    best_loss, best_counts = np.inf, counts
    for step in range(1, _GREEDY_STEPS + 1):
        losses = share @ softplus((total[:, None] + signed) / step)
        chosen = int(np.argmin(losses))
        total += signed[:, chosen]
        counts = counts.copy()
        counts[chosen] += 1
        if losses[chosen] < best_loss - 1e-12:
            best_loss, best_counts = float(losses[chosen]), counts
    return best_counts / best_counts.sum(), 0.0


_METHODS: dict[str, _Fit] = {"mean": _mean, "nonnegative": _nonnegative, "greedy": _greedy, "logistic": _logistic}
BLEND_METHODS: tuple[str, ...] = tuple(_METHODS)


def fit_blend(
    method: str,
    members: tuple[str, ...],
    F: NDArray[np.float64],
    y: NDArray[np.bool_],
    w: NDArray[np.float64],
    totals: tuple[float, float],
) -> Blend:
    """Fit a blend on out-of-fold log-odds.

    The fit sees classes of equal weight (the evaluation weights up to one factor per class): the physical ratio of 1 to
    600 would leave the loss to a handful of events.

    Args:
        method: one of `BLEND_METHODS`.
        members: labels, in the order of the columns.
        F: (n, m) log-odds in physical normalisation.
        y: (n,) truth.
        w: (n,) evaluation weights.
        totals: reference totals (N_s, N_b).

    Raises:
        ConfigError: if the method is not known.
    """
    if method not in _METHODS:
        raise ConfigError(f"stack.method: {method!r} is not one of {', '.join(BLEND_METHODS)}")
    prior = float(np.log(totals[0] / totals[1]))
    balanced = np.maximum(evaluation_weights(y, w, 0.5, 0.5), 0.0)
    coefficients, intercept = _METHODS[method](clipped(F, prior), y, balanced)
    return Blend(method, members, coefficients, intercept, prior)


def cross_fitted_blend(
    method: str,
    members: tuple[str, ...],
    F: NDArray[np.float64],
    y: NDArray[np.bool_],
    w: NDArray[np.float64],
    fold: NDArray[np.int64],
    totals: tuple[float, float],
) -> tuple[NDArray[np.float64], list[Blend]]:
    """Return the stack's own out-of-fold scores (n,): each fold blended by a blender fitted on the other folds.

    Arguments as for `fit_blend`, with the fold number (n,) of each event. The blender of each fold comes along.
    """
    out = np.empty(F.shape[0])
    blends = []
    for k in range(int(fold.max()) + 1):
        held_out = fold == k
        rest = ~held_out
        blend = fit_blend(method, members, F[rest], y[rest], w[rest], totals)
        out[held_out] = blend(F[held_out])
        blends.append(blend)
    return out, blends
