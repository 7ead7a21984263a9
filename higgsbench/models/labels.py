"""The two classes of a binary classifier: from labels, and from log-odds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["FromLogOdds", "two_classes"]


def two_classes(y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Return the classes (2,), sorted, and the class number 0 or 1 of each label (n,).

    Raises:
        ValueError: if the labels are not of two classes, in the words of scikit-learn.
    """
    from sklearn.utils.multiclass import check_classification_targets, type_of_target

    check_classification_targets(y)
    classes, coded = np.unique(y, return_inverse=True)
    if classes.size > 2:
        kind = type_of_target(y, input_name="y")
        raise ValueError(f"Only binary classification is supported. The type of the target is {kind}.")
    if classes.size < 2:
        raise ValueError(f"Classifier can't train when only one class is present: {classes}")
    return classes, coded


class FromLogOdds:
    """Probabilities and classes of a classifier that has `decision_function` and `classes_`."""

    classes_: NDArray[Any]

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the log-odds of the second class, shape (n,)."""
        raise NotImplementedError

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the probabilities (n, 2) that belong to the log-odds."""
        f = self.decision_function(X)
        return np.column_stack([np.exp(-np.logaddexp(0.0, f)), np.exp(-np.logaddexp(0.0, -f))])

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the more probable class of each event, shape (n,)."""
        f = self.decision_function(X)  # first, for it says when there is no fit yet
        predicted: NDArray[Any] = self.classes_[(f > 0.0).astype(np.intp)]
        return predicted
