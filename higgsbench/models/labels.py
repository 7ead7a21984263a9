"""The two classes of a binary classifier's labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["two_classes"]


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
