"""What each feature adds to the log-odds of boosted trees, as the libraries themselves compute it.

Exact Shapley values of a tree ensemble (Lundberg et al., Nature Machine Intelligence 2 (2020) 56): the parts of an
event and the mean over the training events add up to the log-odds of the model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.errors import ModelError
from higgsbench.models import registered_models
from higgsbench.models.estimators import SeedBag, unwrapped
from higgsbench.validation.folds import group_index
from higgsbench.validation.physical import JetSplitClassifier, PhysicalClassifier

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["tree_contributions"]


def tree_contributions(estimator: PhysicalClassifier | JetSplitClassifier, X: NDArray[Any]) -> NDArray[np.float64]:
    """Split the log-odds of a fitted meta-estimator around boosted trees.

    Args:
        estimator: the meta-estimator.
        X: (n, p) features as it was trained on, the group number last where it is split.

    Returns:
        (n, p + 1): what each feature adds, and last what is left without any; the sum of a row is its
        `decision_function`.

    Raises:
        ModelError: if the model is not made of boosted trees whose library has TreeSHAP.
    """
    if isinstance(estimator, PhysicalClassifier):
        inner = estimator.estimator_
        members = inner.estimators_ if isinstance(inner, SeedBag) else [inner]
        out = np.asarray(np.mean([_of_trees(unwrapped(member), X) for member in members], axis=0))
        out[:, -1] += estimator.prior_shift_
        return out
    out = np.zeros((X.shape[0], X.shape[1] + 1))
    member = group_index(X[:, estimator.group_column].astype(np.int64), estimator.groups)
    for position, (submodel, columns) in enumerate(zip(estimator.submodels_, estimator.columns_, strict=True)):
        rows = np.flatnonzero(member == position)
        if rows.size:
            out[np.ix_(rows, [*columns, X.shape[1]])] = tree_contributions(submodel, X[np.ix_(rows, columns)])
    return out


def _of_trees(trees: Any, X: NDArray[Any]) -> NDArray[np.float64]:
    """Ask the model that stores these trees, whichever model they were trained for."""
    for spec in registered_models():
        if spec.contributions is not None and any(codec.handles(trees) for codec in spec.codecs):
            return np.asarray(spec.contributions(trees, X), dtype=np.float64)
    known = ", ".join(spec.name for spec in registered_models() if spec.contributions is not None)
    raise ModelError(f"{type(trees).__name__} is not boosted trees with TreeSHAP in its library ({known})")
