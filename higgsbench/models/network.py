"""A scikit-learn network that stops after a fixed number of epochs without calling that a failure."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["ShortMLPClassifier"]


class ShortMLPClassifier(MLPClassifier):  # type: ignore[misc]  # scikit-learn ships no types
    """`MLPClassifier` whose `max_iter` is a number of epochs chosen on purpose.

    Stopping early is the regularisation that works on these events; scikit-learn warns of it as non-convergence.
    """

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Any:
        """Fit for `max_iter` epochs; arguments and result as in scikit-learn."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return super().fit(X, y, sample_weight=sample_weight)
