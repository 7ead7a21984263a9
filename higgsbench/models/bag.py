"""A bag of copies of one classifier with different seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone

from higgsbench.models.early import fit_members
from higgsbench.models.scoring import read_log_odds

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SeedBag"]


class SeedBag(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """Mean log-odds of several classifiers trained on the same events.

    Averaging over seeds takes off the part of the error that chance in the training made.

    Args:
        estimators: unfitted binary classifiers of classes 0 and 1, cloned for the fit.
        log_odds: reads log-odds off a fitted member; None for `decision_function` or the logit of `predict_proba`.

    Attributes:
        estimators_: the fitted members.
        classes_: the two classes.
    """

    def __init__(
        self, estimators: Sequence[Any], log_odds: Callable[[Any, NDArray[Any]], NDArray[Any]] | None = None
    ) -> None:
        self.estimators = estimators
        self.log_odds = log_odds

    def fit(self, X: NDArray[Any], y: NDArray[Any], sample_weight: NDArray[np.float64] | None = None) -> SeedBag:
        """Fit all members on X (n, p), y (n,) with training weights (n,)."""
        self.classes_ = np.unique(y)
        self.estimators_ = fit_members([clone(member) for member in self.estimators], X, y, sample_weight)
        return self

    def decision_function(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Return the mean log-odds of the members, shape (n,), under the weights they were trained with."""
        total = np.zeros(X.shape[0])
        for member in self.estimators_:
            total += read_log_odds(member, X, self.log_odds)
        return total / len(self.estimators_)

    def predict(self, X: NDArray[Any]) -> NDArray[Any]:
        """Return the more probable class under the training weights, shape (n,)."""
        chosen: NDArray[Any] = self.classes_[(self.decision_function(X) > 0.0).astype(np.intp)]
        return chosen
