"""From a model's record and parameters to an unfitted estimator."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.errors import ModelError
from higgsbench.models.spec import BAG

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from higgsbench.models.out_of_core import Training
    from higgsbench.models.spec import BuildContext, ModelSpec

__all__ = ["build_estimator", "estimator_from_disk", "log_odds_reader"]

BAG_STRIDE = 1_000_000
"""Distance of the seeds in a bag; far more than the seeds of folds and repeats span."""


def build_estimator(spec: ModelSpec, params: Mapping[str, Any], context: BuildContext) -> Any:
    """Build a model's estimator, a bag of seeds where `bag` is more than 1.

    A model that takes no NaN gets a median imputation with missing flags in front, once for the whole bag.

    Raises:
        ModelError: if the builder refuses the parameters.
    """
    from sklearn.pipeline import make_pipeline

    own = dict(params)
    size = own.pop(BAG, 1)
    seeds = [context.seed + BAG_STRIDE * i for i in range(size)]
    # The imputation in front makes a table, which the members of a bag share.
    context = dataclasses.replace(context, own_table=size == 1 and not spec.missing)
    try:
        members = [spec.build(own, dataclasses.replace(context, seed=seed)) for seed in seeds]
    except (TypeError, ValueError) as error:
        raise ModelError(f"model {spec.name!r} cannot be built from {own}: {error}") from error
    estimator = members[0]
    if size > 1:
        from higgsbench.models.bag import SeedBag  # a subclass of scikit-learn's, whose import takes a second

        estimator = SeedBag(members, log_odds=spec.log_odds)
    if spec.missing:
        return estimator
    from higgsbench.models.parts import FlaggedMedians

    return make_pipeline(FlaggedMedians(), estimator)


def estimator_from_disk(spec: ModelSpec, params: Mapping[str, Any], context: BuildContext, train: Training) -> Any:
    """Train what `build_estimator` would build on events that stay on disk, the members of a bag one after the other.

    Raises:
        ModelError: if the model cannot, or refuses the parameters.
    """
    own = dict(params)
    size = own.pop(BAG, 1)
    if spec.from_disk is None:
        raise ModelError(f"model {spec.name!r} cannot be trained from disk")
    seeds = [context.seed + BAG_STRIDE * i for i in range(size)]
    try:
        members = [spec.from_disk(spec.build, own, dataclasses.replace(context, seed=seed), train) for seed in seeds]
    except (TypeError, ValueError) as error:
        raise ModelError(f"model {spec.name!r} cannot be trained from disk with {own}: {error}") from error
    if size == 1:
        return members[0]
    from higgsbench.models.bag import SeedBag

    bag = SeedBag(members, log_odds=spec.log_odds)
    bag.estimators_, bag.classes_ = members, np.array([0, 1])
    return bag


def log_odds_reader(spec: ModelSpec, params: Mapping[str, Any]) -> Callable[[Any, NDArray[Any]], NDArray[Any]] | None:
    """Return how to read log-odds off what `build_estimator` made: a bag reads its members' by itself."""
    return None if params.get(BAG, 1) > 1 else spec.log_odds
