"""scikit-learn estimators that take on purpose what the library warns of."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import QuantileTransformer

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["NormalQuantiles", "ShortMLPClassifier"]


class ShortMLPClassifier(MLPClassifier):  # type: ignore[misc]  # scikit-learn ships no types
    """`MLPClassifier` whose `max_iter` is a number of epochs chosen on purpose.

    Stopping early is the regularisation that works on these events; scikit-learn warns of it as non-convergence.
    """

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Any:
        """Fit for `max_iter` epochs; arguments and result as in scikit-learn."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return super().fit(X, y, sample_weight=sample_weight)


class NormalQuantiles(QuantileTransformer):  # type: ignore[misc]  # scikit-learn ships no types
    """`QuantileTransformer` to a normal distribution; fewer events than quantiles (a small jet group) are fine."""

    def __init__(self, *, n_quantiles: int = 200, subsample: int = 50_000, random_state: int | None = None) -> None:
        super().__init__(
            n_quantiles=n_quantiles, output_distribution="normal", subsample=subsample, random_state=random_state
        )

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Any:
        """Fit; arguments and result as in scikit-learn."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="n_quantiles", category=UserWarning)
            return super().fit(X, y)
