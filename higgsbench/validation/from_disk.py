"""Fit the meta-estimators on a matrix that stays on disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.models.out_of_core import RowsOnDisk, Training
from higgsbench.validation.folds import group_index
from higgsbench.validation.physical import (
    JetSplitClassifier,
    PhysicalClassifier,
    class_sums,
    is_useful,
    log_ratio,
    submodel_of,
)
from higgsbench.validation.weights import training_weights, without_negative

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["fit_from_disk"]

Fit = Callable[[Training], Any]


def fit_from_disk(
    estimator: PhysicalClassifier | JetSplitClassifier,
    fit: Fit,
    data: RowsOnDisk,
    y: NDArray[np.bool_],
    weight: NDArray[np.float64],
    numbers: NDArray[np.int64] | None,
) -> None:
    """Fit a meta-estimator in place, as its own `fit` does in memory.

    Args:
        estimator: global, or split by a group column that is the last one.
        fit: trains the submodel.
        data: (n, p) features, without the group column.
        y: (n,) truth.
        weight: (n,) evaluation weights.
        numbers: (n,) group numbers of a split estimator.

    Raises:
        ConfigError: if an event stands in no group.
        ModelError: if a group lacks a class with positive weight.
    """
    if isinstance(estimator, PhysicalClassifier):
        _fit_global(estimator, fit, data, y, weight)
        return
    if numbers is None:
        raise ValueError("a split estimator needs group numbers")
    _fit_split(estimator, fit, data, y, weight, group_index(numbers, estimator.groups))


def _fit_global(
    estimator: PhysicalClassifier, fit: Fit, data: RowsOnDisk, y: NDArray[np.bool_], weight: NDArray[np.float64]
) -> None:
    usable, kept = without_negative(weight, estimator.negative_weights)
    scheme = estimator.training_weights if estimator.weighted else "none"
    train = training_weights(y[kept], usable[kept], scheme)
    rows = data if kept.all() else data.chosen(np.flatnonzero(kept))
    estimator.estimator_ = fit(Training(rows, y[kept], train))
    estimator.classes_, estimator.n_features_in_ = np.array([0, 1]), data.width
    estimator.prior_shift_ = log_ratio(class_sums(y, weight)) - log_ratio(class_sums(y[kept], train))


def _fit_split(
    estimator: JetSplitClassifier,
    fit: Fit,
    data: RowsOnDisk,
    y: NDArray[np.bool_],
    weight: NDArray[np.float64],
    member: NDArray[np.int64],
) -> None:
    estimator.classes_, estimator.n_features_in_ = np.array([0, 1]), data.width + 1
    estimator.submodels_, estimator.columns_ = [], []
    for position, numbers in enumerate(estimator.groups):
        rows = np.flatnonzero(member == position)
        submodel = submodel_of(estimator, numbers, y[rows], weight[rows])
        useful = [is_useful(data.X[data.rows[rows], column]) for column in range(data.width)]
        columns = np.flatnonzero(useful) if any(useful) else np.zeros(1, dtype=np.intp)
        _fit_global(submodel, fit, RowsOnDisk(data.X, data.rows[rows], columns), y[rows], weight[rows])
        estimator.submodels_.append(submodel)
        estimator.columns_.append(columns)
