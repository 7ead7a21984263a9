"""Fit and read classifiers with weights, and the estimators around a model's own: early stopping, bags, searches."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import sklearn
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_is_fitted

from higgsbench.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_FLOOR = 1e-6
"""Probabilities are kept this far from 0 and 1 before the logit: finer differences are noise of a finite forest. Values
that lie outside 0 to 1 by no more than this are accepted."""

Sample = tuple[Any, Any, Any]
FitUntil = Callable[[Any, Sample, Sample, int], Any]
LogOdds = Callable[[Any, "NDArray[Any]"], "NDArray[Any]"]
Search = Callable[..., Callable[["NDArray[Any]"], Any]]


def two_classes(y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Return the classes (2,), sorted, and the class number 0 or 1 of each label (n,).

    Raises:
        ValueError: with scikit-learn's message, if the labels do not have two classes.
    """
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
        """Return the probabilities (n, 2) that follow from the log-odds."""
        f = self.decision_function(X)
        return np.column_stack([np.exp(-np.logaddexp(0.0, f)), np.exp(-np.logaddexp(0.0, -f))])

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the more probable class of each event by its log-odds, shape (n,)."""
        f = self.decision_function(X)  # first, because it raises an error if there is no fit yet
        predicted: NDArray[Any] = self.classes_[(f > 0.0).astype(np.intp)]
        return predicted


def fit_weighted(
    estimator: Any, X: NDArray[Any], y: NDArray[Any], sample_weight: NDArray[np.float64] | None, **more: Any
) -> Any:
    """Fit in place, with the weights for the classifier at the end of a Pipeline; None trains unweighted.

    The weights, and `more` arguments of its `fit`, are addressed to the last step by its name. scikit-learn's metadata
    routing refuses that, so it is turned off during the fit, whatever the caller has configured.
    """
    if sample_weight is None:
        return estimator.fit(X, y)
    argument, last = "", estimator
    while isinstance(last, Pipeline):
        name, last = last.steps[-1]
        argument += f"{name}__"
    with sklearn.config_context(enable_metadata_routing=False):
        own = {f"{argument}{name}": value for name, value in (more | {"sample_weight": sample_weight}).items()}
        return estimator.fit(X, y, **own)


def read_log_odds(estimator: Any, X: NDArray[Any], reader: LogOdds | None = None) -> NDArray[np.float64]:
    """Return the log-odds of signal, shape (n,), under the weights the estimator was trained with.

    Args:
        estimator: fitted classifier of classes 0 and 1.
        X: (n, p) features.
        reader: the model's own function, given the estimator without its `Wrapping`; None takes `decision_function`
            where there is one, otherwise the logit of `predict_proba`, kept 1e-6 away from 0 and 1.

    Raises:
        ModelError: if the result has the wrong shape or type, holds NaN or infinite scores, or probabilities outside
            0 to 1.
    """
    estimator = unwrapped(estimator)
    name = type(estimator).__name__
    if reader is not None:
        raw = reader(estimator, X)
    elif hasattr(estimator, "decision_function"):
        raw = estimator.decision_function(X)
    else:
        p = np.clip(_probabilities(estimator, X), _FLOOR, 1.0 - _FLOOR)
        raw = np.log(p) - np.log1p(-p)
    if np.asarray(raw).dtype.kind not in "fiub":
        raise ModelError(f"{name} returned {np.asarray(raw).dtype}, not numbers")
    scores = np.asarray(raw, dtype=np.float64)
    if scores.shape != (X.shape[0],):
        raise ModelError(f"{name} returned scores of shape {scores.shape} for {X.shape[0]} events")
    if not np.isfinite(scores).all():
        what = "NaN" if np.isnan(scores).any() else "infinite scores"
        raise ModelError(f"{name} returned {what} for {int((~np.isfinite(scores)).sum())} events")
    return scores


def _probabilities(estimator: Any, X: NDArray[Any]) -> NDArray[Any]:
    """Probabilities of signal (n,) from `predict_proba`, checked."""
    found, name = np.asarray(estimator.predict_proba(X)), f"{type(estimator).__name__}.predict_proba"
    if found.shape != (X.shape[0], 2):
        raise ModelError(f"{name} returned shape {found.shape}, expected ({X.shape[0]}, 2)")
    if found.dtype.kind not in "fiub":
        raise ModelError(f"{name} returned {found.dtype}, not numbers")
    signal: NDArray[Any] = found[:, 1]
    if ((signal < -_FLOOR) | (signal > 1.0 + _FLOOR)).any():
        low, high = float(np.nanmin(signal)), float(np.nanmax(signal))
        raise ModelError(f"{name} returned values from {low:.3g} to {high:.3g}, outside 0 to 1")
    return signal


class Wrapping:
    """An estimator that matters only until it is fitted: then `estimator_` gives scores and is stored."""

    estimator_: Any


@dataclass(eq=False, repr=False)
class EarlyStopping(Wrapping, ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """Train until the weighted log-loss on held-out training events stops decreasing.

    In a bag each member holds out a different part, so that together they learn from all events. The scored fold is
    not used.

    Args:
        estimator: boosted trees, cloned for the fit.
        fit_until: fits the estimator on one sample (X, y, weight), watching another, for a number of rounds.
        rounds: rounds without improvement after which training ends; the best round is kept.
        fraction: share of the training events held out, between 0 and 1, stratified by class.
        seed: seed of that choice.
        shared: bins the events once for a bag, see `LightGBMBins`; None where each member bins them.

    Attributes:
        estimator_: the fitted trees.
        classes_: the two classes.
    """

    estimator: Any
    fit_until: FitUntil
    rounds: int
    fraction: float
    seed: int
    shared: Any = None

    def fit(
        self, X: NDArray[Any], y: NDArray[Any], sample_weight: NDArray[np.float64] | None = None, bins: Any = None
    ) -> EarlyStopping:
        """Fit on X (n, p), y (n,) with training weights (n,), or on their `bins`; `ModelError` as for `parts`."""
        rows, new = self.parts(y), clone(self.estimator)
        if bins is None:
            w = np.ones(y.size) if sample_weight is None else sample_weight
            learn, watch = ((X[part], y[part], w[part]) for part in rows)
            self.estimator_ = self.fit_until(new, learn, watch, self.rounds)
        else:
            self.estimator_ = self.shared.fit(new, bins, *rows, self.rounds)
        return self

    def parts(self, y: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the ascending rows to train on and those put aside, for classes y (n,).

        Raises:
            ModelError: if there are too few events of a class to put some aside.
        """
        how = {"test_size": self.fraction, "stratify": y, "random_state": self.seed}
        try:
            train, aside = train_test_split(np.arange(y.size), **how)
        except ValueError as error:
            raise ModelError(f"validation_fraction: {self.fraction} of {y.size} events: {error}") from error
        train.sort()
        self.classes_ = np.unique(y)
        return train, aside

    def predict_proba(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Return the probabilities of both classes under the training weights, shape (n, 2)."""
        probabilities: NDArray[np.float64] = self.estimator_.predict_proba(X)
        return probabilities


def stopped_early(
    params: Mapping[str, Any], seed: int, build: Callable[[dict[str, Any]], Any], fit: FitUntil, shared: Any = None
) -> Any:
    """Build an estimator, wrapped in `EarlyStopping` if `early_stopping_rounds` is among its parameters.

    Raises:
        ValueError: for an impossible number of rounds or fraction.
    """
    own = dict(params)
    rounds, fraction = own.pop("early_stopping_rounds", None), own.pop("validation_fraction", 0.15)
    if rounds is None:
        return build(own)
    if not isinstance(rounds, int) or rounds < 1:
        raise ValueError(f"early_stopping_rounds must be a whole number of at least 1, got {rounds!r}")
    if not 0.0 < fraction < 1.0:
        raise ValueError(f"validation_fraction must be a number between 0 and 1, got {fraction!r}")
    return EarlyStopping(build(own), fit, rounds, fraction, seed, shared)


def unwrapped(estimator: Any) -> Any:
    """Return the fitted model itself, whether or not an estimator around it trained it."""
    return estimator.estimator_ if isinstance(estimator, Wrapping) else estimator


@dataclass(eq=False, repr=False)
class SeedBag(FromLogOdds, ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """Mean log-odds of several classifiers trained on the same events, which averages out the randomness of training.

    Args:
        estimators: unfitted binary classifiers of classes 0 and 1, cloned for the fit.
        log_odds: reads log-odds off a fitted member; None for `decision_function` or the logit of `predict_proba`.

    Attributes:
        estimators_: the fitted members.
        classes_: the two classes.
    """

    estimators: Sequence[Any]
    log_odds: LogOdds | None = None

    @classmethod
    def of_fitted(cls, members: Sequence[Any], log_odds: LogOdds | None) -> SeedBag:
        """Make a fitted bag from fitted members."""
        bag = cls(members, log_odds)
        bag.estimators_, bag.classes_ = list(members), np.array([0, 1])
        return bag

    def fit(
        self, X: NDArray[Any], y: NDArray[Any], sample_weight: NDArray[np.float64] | None = None, **more: Any
    ) -> SeedBag:
        """Fit all members on X (n, p), y (n,) with training weights (n,), on one set of bins where that is possible."""
        members = [clone(member) for member in self.estimators]
        first, bins = members[0], None
        if len(members) > 1 and isinstance(first, EarlyStopping) and first.shared is not None:
            w = np.ones(y.size) if sample_weight is None else sample_weight
            bins = first.shared.prepare(first.estimator, X, y, w)
        self.estimators_ = [
            fit_weighted(member, X, y, sample_weight, **more) if bins is None else member.fit(X, y, bins=bins)
            for member in members
        ]
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the mean log-odds of the members, shape (n,), under the weights they were trained with."""
        events = np.asarray(X)
        total = np.zeros(events.shape[0])
        for member in self.estimators_:
            total += read_log_odds(member, events, self.log_odds)
        return total / len(self.estimators_)


@dataclass(eq=False, repr=False)
class TimedSearch(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """An AutoML framework as a binary classifier; the clock decides how far it gets, so scores are not reproducible.

    Args:
        framework: its name in messages.
        search: given this estimator, X, y of 0 and 1, weights (None: all equal) and a folder that is removed
            afterwards, the only place it may write to, returns the function that gives the probability of label 1.
        options: the framework's own options.
        time_limit: seconds of search for one fit, that is per fold (and per jet group of a split).
        n_jobs: cores it may use.
        random_state: seed of its search.

    Attributes:
        classes_: the two labels, sorted.
        n_features_in_: number of columns of X.
    """

    framework: str
    search: Search
    options: dict[str, Any]
    time_limit: float
    n_jobs: int
    random_state: int

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class, tags.input_tags.allow_nan = False, True
        return tags

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> TimedSearch:
        """Search for at most about `time_limit` seconds on X (n, p) of floats or NaN, y (n,), sample_weight (n,).

        The framework gets no weights if all are equal: the same objective, and its common path.

        Raises:
            ModelError: if there are not two classes, or no model was finished in time.
        """
        X_, y_ = np.asarray(X), np.asarray(y)
        self.classes_, coded = np.unique(y_, return_inverse=True)
        if self.classes_.size != 2:
            raise ModelError(f"{self.framework} needs two classes, got {self.classes_.size}")
        self.n_features_in_ = X_.shape[1]
        w = None if sample_weight is None or np.ptp(sample_weight) == 0.0 else np.asarray(sample_weight, np.float64)
        scratch = tempfile.TemporaryDirectory(prefix="higgsbench-peer-", ignore_cleanup_errors=True)
        # If warnings were errors, as in a strict test run, the models that warn would silently drop out of the search.
        with scratch as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.signal_ = self.search(self, X_, coded.astype(np.int64), w, folder)
        return self

    def nothing_found(self) -> ModelError:
        """Return the error of a search that finished no model."""
        return ModelError(f"{self.framework} finished no model in {self.time_limit:g} s; raise its time_limit")

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the probabilities (n, 2) of `classes_`."""
        check_is_fitted(self)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            signal = np.asarray(self.signal_(np.asarray(X)), dtype=np.float64)
        return np.column_stack([1.0 - signal, signal])

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the more probable class of each event, shape (n,)."""
        chosen: NDArray[Any] = self.classes_[(self.predict_proba(X)[:, 1] > 0.5).astype(np.intp)]
        return chosen
