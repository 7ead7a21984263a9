"""What a trial is judged by, computed with evaluation weights on scores of events it was not trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from higgsbench.ensemble.calibration import apply_recalibration, cross_fitted_recalibration, fit_recalibration
from higgsbench.ensemble.evaluate import Truth
from higgsbench.ensemble.selection import cross_validated_selection
from higgsbench.metrics import ams_estimate, log_loss, roc_auc
from higgsbench.metrics.weights import evaluation_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from higgsbench.config import RunConfig
    from higgsbench.runs.dataset import Dataset
    from higgsbench.runs.plan import Row

__all__ = [
    "DIRECTIONS",
    "OBJECTIVES",
    "Direction",
    "better",
    "fitted_recalibration",
    "objective_value",
    "on_scored_folds",
    "recalibration_part",
]

OBJECTIVES = ("log_loss", "auc", "ams")
Direction: TypeAlias = Literal["minimize", "maximize"]
DIRECTIONS: dict[str, Direction] = {"log_loss": "minimize", "auc": "maximize", "ams": "maximize"}


def better(objective: str, a: float, b: float) -> bool:
    """Whether a is better than b."""
    return a < b if DIRECTIONS[objective] == "minimize" else a > b


def on_scored_folds(
    score: NDArray[np.float64], row: Row, dataset: Dataset, config: RunConfig
) -> tuple[NDArray[np.float64], Truth]:
    """Reduce to the folds that have scores, recalibrate where the row asks for it, rescale the weights.

    Args:
        score: (n,) out-of-fold log-odds, NaN in folds without.
        row: the row they belong to.
        dataset: events with the folds of the scores.
        config: the run's configuration.

    Returns:
        (1, m) scores and what they are judged by, folds numbered anew from 0.
    """
    there = ~np.isnan(score)
    y, f = dataset.y[there], score[there]
    weight = evaluation_weights(y, dataset.weight[there], *dataset.totals)
    fold = np.unique(dataset.fold[0][there], return_inverse=True)[1].astype(np.int64)
    if row.calibration == "logit":
        part = recalibration_part(row, dataset, there)
        if fold.max() > 0:
            f = cross_fitted_recalibration(f, y, weight, part, fold)
        else:  # a single fold serves only to break trials off
            f = apply_recalibration(f, part, fit_recalibration(f, y, weight, part))
    truth = Truth(y, weight, fold[None, :], dataset.totals, config.cut.b_reg, config.cut.rule)
    return f[None, :], truth


def recalibration_part(row: Row, dataset: Dataset, rows: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the part of each event that is recalibrated by itself: its jet group for split models, else one."""
    if row.variant == "jets" and dataset.group is not None:
        return dataset.group[rows]
    return np.zeros(int(rows.sum()), dtype=np.int64)


def fitted_recalibration(score: NDArray[np.float64], row: Row, dataset: Dataset) -> list[list[float]] | None:
    """Fit the recalibration that a row asks for on all its out-of-fold scores; None where it asks for none."""
    if row.calibration != "logit":
        return None
    part = recalibration_part(row, dataset, np.ones(score.size, dtype=np.bool_))
    found: list[list[float]] = fit_recalibration(score, dataset.y, dataset.weight, part).tolist()
    return found


def objective_value(objective: str, scores: NDArray[np.float64], truth: Truth) -> float | None:
    """Compute an objective on out-of-fold scores.

    Args:
        objective: `log_loss` (weighted, of the physical log-odds), `auc` (weighted) or `ams` (each fold cut where the
            other folds say, pooled).
        scores: (1, m) log-odds in physical normalisation.
        truth: what they are judged by.

    Returns:
        The value, or None for an AMS on a single fold, which no other fold can cut.
    """
    if objective == "log_loss":
        return log_loss(truth.y, scores[0], truth.weight).value
    if objective == "auc":
        return roc_auc(truth.y, scores[0], truth.weight).value
    if truth.fold.max() == 0:
        return None
    selected = cross_validated_selection(scores[0], truth, 0)
    return ams_estimate(truth.y, selected, truth.weight, truth.b_reg)[0].value
