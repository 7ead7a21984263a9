"""Fit any scikit-learn-compatible classifier with weights and read log-odds off it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.errors import ModelError
from higgsbench.models.spec import BAG

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from higgsbench.models.spec import BuildContext, ModelSpec

__all__ = ["build_estimator", "fit_weighted", "log_odds_reader", "read_log_odds"]

BAG_STRIDE = 1_000_000
"""Distance of the seeds in a bag; far more than the seeds of folds and repeats span."""

PROBABILITY_FLOOR = 1e-6
"""Probabilities are kept this far from 0 and 1 before the logit; finer differences are noise of a finite forest."""


def build_estimator(spec: ModelSpec, params: Mapping[str, Any], context: BuildContext) -> Any:
    """Build a model's estimator, a bag of seeds where `bag` is more than 1.

    A model that takes no NaN gets a median imputation with missing flags in front, once for the whole bag.

    Raises:
        ModelError: if the builder refuses the parameters.
    """
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline

    own = dict(params)
    size = own.pop(BAG, 1)
    seeds = [context.seed + BAG_STRIDE * i for i in range(size)]
    try:
        members = [spec.build(own, dataclasses.replace(context, seed=seed)) for seed in seeds]
    except (TypeError, ValueError) as error:
        raise ModelError(f"model {spec.name!r} cannot be built from {own}: {error}") from error
    estimator = members[0]
    if size > 1:
        from higgsbench.models.bag import SeedBag

        estimator = SeedBag(members, log_odds=spec.log_odds)
    if spec.missing:
        return estimator
    return make_pipeline(SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True), estimator)


def log_odds_reader(spec: ModelSpec, params: Mapping[str, Any]) -> Callable[[Any, NDArray[Any]], NDArray[Any]] | None:
    """Return how to read log-odds off what `build_estimator` made: a bag reads its members' by itself."""
    return None if params.get(BAG, 1) > 1 else spec.log_odds


def _weight_argument(estimator: Any) -> str:
    """Name under which a (nested) Pipeline hands sample_weight to its last step."""
    from sklearn.pipeline import Pipeline

    if not isinstance(estimator, Pipeline):
        return "sample_weight"
    name, last = estimator.steps[-1]
    return f"{name}__{_weight_argument(last)}"


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
        ModelError: if the result has the wrong shape or holds NaN.
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
        p = np.clip(probabilities[:, 1], PROBABILITY_FLOOR, 1.0 - PROBABILITY_FLOOR)
        raw = np.log(p) - np.log1p(-p)
    scores = np.asarray(raw, dtype=np.float64)
    if scores.shape != (X.shape[0],):
        raise ModelError(f"{type(estimator).__name__} returned scores of shape {scores.shape} for {X.shape[0]} events")
    if np.isnan(scores).any():
        raise ModelError(f"{type(estimator).__name__} returned NaN for {int(np.isnan(scores).sum())} events")
    return scores
