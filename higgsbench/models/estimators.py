"""Estimators around a model's own: early stopping on inner validation events, and bags of seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.model_selection import train_test_split

from higgsbench.errors import ModelError
from higgsbench.models.scoring import fit_weighted, read_log_odds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["EarlyStopping", "Sample", "SeedBag", "SharedBins", "fit_members", "stopped_early", "unwrapped"]


Sample = tuple[Any, Any, Any]
FitUntil = Callable[[Any, Sample, Sample, int], Any]


class SharedBins(Protocol):
    """How a library bins events once for all members of a bag, see `higgsbench.models.bins`."""

    def prepare(self, estimator: Any, X: NDArray[Any], y: NDArray[Any], weight: NDArray[np.float64]) -> Any:
        """Bin the events; None where the estimator's parameters do not allow it."""

    def fit(self, estimator: Any, bins: Any, train: NDArray[np.intp], aside: NDArray[np.intp], rounds: int) -> Any:
        """Train on some rows, watching others."""


class EarlyStopping(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """Train until the weighted log-loss on a part of the training events, put aside, no longer falls.

    In a bag each member puts another part aside, so that together they learn from all events.

    Args:
        estimator: boosted trees, cloned for the fit.
        fit_until: fits the estimator on one sample (X, y, weight), watching another, for a number of rounds.
        rounds: rounds without improvement after which training ends; the best round is kept.
        fraction: share of the training events put aside, between 0 and 1, stratified by class.
        seed: seed of that choice.
        shared: how a bag bins the events once; None where each member does.

    Attributes:
        estimator_: the fitted trees.
        classes_: the two classes.
    """

    def __init__(
        self,
        estimator: Any,
        fit_until: FitUntil,
        rounds: int,
        fraction: float,
        seed: int,
        shared: SharedBins | None = None,
    ) -> None:
        self.estimator = estimator
        self.fit_until = fit_until
        self.rounds = rounds
        self.fraction = fraction
        self.seed = seed
        self.shared = shared

    def fit(self, X: NDArray[Any], y: NDArray[Any], sample_weight: NDArray[np.float64] | None = None) -> EarlyStopping:
        """Fit on X (n, p), y (n,) with training weights (n,).

        Raises:
            ModelError: if there are too few events of a class to put some aside.
        """
        w = np.ones(y.size) if sample_weight is None else sample_weight
        train, aside = self.parts(y)
        self.estimator_ = self.fit_until(
            clone(self.estimator), (X[train], y[train], w[train]), (X[aside], y[aside], w[aside]), self.rounds
        )
        return self

    def fit_on(self, shared: SharedBins, bins: Any, y: NDArray[Any]) -> EarlyStopping:
        """Fit on events that are binned already; as `fit` otherwise."""
        train, aside = self.parts(y)
        self.estimator_ = shared.fit(clone(self.estimator), bins, train, aside, self.rounds)
        return self

    def parts(self, y: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the ascending rows to train on and those put aside, for classes y (n,).

        Raises:
            ModelError: if there are too few events of a class to put some aside.
        """
        try:
            train, aside = train_test_split(
                np.arange(y.size), test_size=self.fraction, stratify=y, random_state=self.seed
            )
        except ValueError as error:
            raise ModelError(f"validation_fraction: {self.fraction} of {y.size} events: {error}") from error
        train.sort()
        self.classes_ = np.unique(y)
        return train, aside

    def predict_proba(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Return the probabilities of both classes under the training weights, shape (n, 2)."""
        probabilities: NDArray[np.float64] = self.estimator_.predict_proba(X)
        return probabilities

    def predict(self, X: NDArray[Any]) -> NDArray[Any]:
        """Return the more probable class under the training weights, shape (n,)."""
        chosen: NDArray[Any] = self.classes_[np.argmax(self.predict_proba(X), axis=1)]
        return chosen


def fit_members(
    members: Sequence[Any], X: NDArray[Any], y: NDArray[Any], sample_weight: NDArray[np.float64] | None
) -> list[Any]:
    """Fit the members of a bag, on one set of bins where they stop early and their library can share it.

    Args:
        members: unfitted classifiers that differ by their seeds.
        X: (n, p) features.
        y: (n,) classes 0 and 1.
        sample_weight: (n,) training weights, or None.
    """
    first = members[0]
    if len(members) > 1 and isinstance(first, EarlyStopping) and first.shared is not None:
        w = np.ones(y.size) if sample_weight is None else sample_weight
        bins = first.shared.prepare(first.estimator, X, y, w)
        if bins is not None:
            return [member.fit_on(first.shared, bins, y) for member in members]
    return [fit_weighted(member, X, y, sample_weight) for member in members]


def stopped_early(
    params: Mapping[str, Any],
    seed: int,
    build: Callable[[dict[str, Any]], Any],
    fit: FitUntil,
    shared: SharedBins | None = None,
) -> Any:
    """Build an estimator, wrapped where `early_stopping_rounds` is among its parameters.

    Raises:
        ValueError: for a number of rounds or a fraction that makes no sense.
    """
    own = dict(params)
    rounds, fraction = own.pop("early_stopping_rounds", None), own.pop("validation_fraction", 0.15)
    if rounds is None:
        return build(own)
    if not isinstance(rounds, int) or rounds < 1:
        raise ValueError(f"early_stopping_rounds is {rounds!r}, expected a whole number of at least 1")
    if not 0.0 < fraction < 1.0:
        raise ValueError(f"validation_fraction is {fraction!r}, expected a number between 0 and 1")
    return EarlyStopping(build(own), fit, rounds, fraction, seed, shared)


def unwrapped(estimator: Any) -> Any:
    """Return the fitted trees themselves, whether they were stopped early or not."""
    return estimator.estimator_ if isinstance(estimator, EarlyStopping) else estimator


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
