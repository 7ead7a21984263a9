"""Fit any scikit-learn-compatible classifier with weights and read log-odds off it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

__all__ = ["FromLogOdds", "fit_weighted", "read_log_odds", "two_classes"]


PROBABILITY_FLOOR = 1e-6
"""Probabilities are kept this far from 0 and 1 before the logit; finer differences are noise of a finite forest."""


def _weight_argument(estimator: Any) -> str:
    """Name under which a (nested) Pipeline hands sample_weight to its last step."""
    from sklearn.pipeline import Pipeline

    if not isinstance(estimator, Pipeline):
        return "sample_weight"
    name, last = estimator.steps[-1]
    return f"{name}__{_weight_argument(last)}"


_ROUNDING = 1e-6
"""By how much probabilities may be beyond 0 and 1."""


def fit_weighted(estimator: Any, X: NDArray[Any], y: NDArray[Any], sample_weight: NDArray[np.float64] | None) -> Any:
    """Fit in place, handing the weights to the classifier at the end of a Pipeline; None trains unweighted."""
    arguments = {} if sample_weight is None else {_weight_argument(estimator): sample_weight}
    return estimator.fit(X, y, **arguments)


def read_log_odds(
    estimator: Any, X: NDArray[Any], reader: Callable[[Any, NDArray[Any]], NDArray[Any]] | None = None
) -> NDArray[np.float64]:
    """Return the log-odds of signal, shape (n,), under the weights the estimator was trained with.

    Args:
        estimator: fitted classifier of classes 0 and 1.
        X: (n, p) features.
        reader: the model's own way; None takes `decision_function` where there is one, otherwise the logit of
            `predict_proba`, kept within the floor of 1e-6.

    Raises:
        ModelError: if the result has the wrong shape or type, holds NaN or infinite scores, or probabilities beyond
            0 and 1.
    """
    if reader is not None:
        raw = reader(estimator, X)
    elif hasattr(estimator, "decision_function"):
        raw = estimator.decision_function(X)
    else:
        probabilities = np.asarray(estimator.predict_proba(X))
        if probabilities.shape != (X.shape[0], 2):
            raise ModelError(
                f"{type(estimator).__name__}.predict_proba returned shape {probabilities.shape}, expected "
                f"({X.shape[0]}, 2)"
            )
        if probabilities.dtype.kind not in "fiub":
            raise ModelError(f"{type(estimator).__name__}.predict_proba returned {probabilities.dtype}, not numbers")
        if ((probabilities[:, 1] < -_ROUNDING) | (probabilities[:, 1] > 1.0 + _ROUNDING)).any():
            low, high = float(np.nanmin(probabilities[:, 1])), float(np.nanmax(probabilities[:, 1]))
            raise ModelError(
                f"{type(estimator).__name__}.predict_proba returned {low:.3g} to {high:.3g}, which are no probabilities"
            )
        p = np.clip(probabilities[:, 1], PROBABILITY_FLOOR, 1.0 - PROBABILITY_FLOOR)
        raw = np.log(p) - np.log1p(-p)
    if np.asarray(raw).dtype.kind not in "fiub":
        raise ModelError(f"{type(estimator).__name__} returned {np.asarray(raw).dtype}, not numbers")
    scores = np.asarray(raw, dtype=np.float64)
    if scores.shape != (X.shape[0],):
        raise ModelError(f"{type(estimator).__name__} returned scores of shape {scores.shape} for {X.shape[0]} events")
    if not np.isfinite(scores).all():
        what = "NaN" if np.isnan(scores).any() else "infinite scores"
        raise ModelError(f"{type(estimator).__name__} returned {what} for {int((~np.isfinite(scores)).sum())} events")
    return scores


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
