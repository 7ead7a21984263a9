"""Meta-estimators whose scores are log-odds in physical normalisation, global and split by jet number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.utils.validation import check_is_fitted, validate_data

from higgsbench.errors import ModelError, StoreError
from higgsbench.models.estimators import FromLogOdds, fit_weighted, read_log_odds, two_classes
from higgsbench.models.spec import RowsOnDisk, Training
from higgsbench.validation.folds import group_index, training_weights, without_negative

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from higgsbench.models import ModelSpec
    from higgsbench.models.storage import Codec, ModelReader, ModelWriter, Node

__all__ = [
    "JetSplitClassifier",
    "JetSplitCodec",
    "PhysicalBase",
    "PhysicalClassifier",
    "PhysicalCodec",
    "fit_from_disk",
    "unit_codecs",
]


LogOddsReader = Callable[[Any, "NDArray[Any]"], "NDArray[Any]"]


def class_sums(y: NDArray[np.bool_], w: NDArray[np.float64]) -> tuple[float, float]:
    """Summed weights of signal and background."""
    return float(np.sum(w[y])), float(np.sum(w[~y]))


def log_ratio(sums: tuple[float, float]) -> float:
    """Logarithm of the ratio of two sums."""
    return float(np.log(sums[0]) - np.log(sums[1]))


def is_useful(values: NDArray[Any]) -> bool:
    """Whether a column (n,) carries something: it is neither constant nor missing throughout.

    A column that is missing in some events only tells something even if its present values are all the same.
    """
    missing = np.isnan(values)
    present = values[~missing]
    return bool(present.size and (missing.any() or present.min() < present.max()))


class PhysicalBase(FromLogOdds, ClassifierMixin, MetaEstimatorMixin, BaseEstimator):  # type: ignore[misc]  # untyped library
    """What all meta-estimators share: input checks and the probabilities that belong to the log-odds."""

    classes_: NDArray[Any]
    n_features_in_: int

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        inner = getattr(self, "estimator", None)
        inner = LogisticRegression() if inner is None else inner
        if hasattr(inner, "__sklearn_tags__"):
            tags.input_tags.allow_nan = inner.__sklearn_tags__().input_tags.allow_nan
        return tags

    def _checked_fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None
    ) -> tuple[NDArray[Any], NDArray[np.bool_], NDArray[np.float64]]:
        from sklearn.utils.validation import _check_sample_weight

        X_, y_ = validate_data(self, X, y, dtype=[np.float64, np.float32], ensure_all_finite="allow-nan")
        self.classes_, coded = two_classes(y_)
        w = np.asarray(_check_sample_weight(sample_weight, X_, dtype=np.float64), dtype=np.float64)
        truth = coded.astype(np.bool_)
        for label, total in zip(self.classes_, class_sums(~truth, w), strict=True):
            if not total > 0.0:
                raise ValueError(f"the weights of class {label} sum to {total}; both classes need a positive sum")
        return X_, truth, w

    def _checked_predict(self, X: ArrayLike) -> NDArray[Any]:
        check_is_fitted(self)
        checked: NDArray[Any] = validate_data(
            self, X, dtype=[np.float64, np.float32], ensure_all_finite="allow-nan", reset=False
        )
        return checked

    def column_index(self, column: int | str, parameter: str) -> int:
        """Return the index of a column among those seen in `fit`.

        Args:
            column: its index, or its name where `fit` saw a frame.
            parameter: what messages call the choice.

        Raises:
            ModelError: if there is no such column.
        """
        if isinstance(column, str):
            names = list(getattr(self, "feature_names_in_", ()))
            if column not in names:
                raise ModelError(f"{parameter}: no column {column!r} among the features; pass its index for arrays")
            return names.index(column)
        if not -self.n_features_in_ <= column < self.n_features_in_:
            raise ModelError(f"{parameter}: index {column} of {self.n_features_in_} columns")
        return column % self.n_features_in_

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the more probable class of each event, shape (n,).

        In physical normalisation nearly every event is more probably background; a useful selection cuts on
        `decision_function` (see `higgsbench.best_cut`).
        """
        return super().predict(X)


class PhysicalClassifier(PhysicalBase):
    """Train on weights made for training, score in physical normalisation.

    The submodel is trained on `training_weights` of mean 1. Its log-odds estimate ln(W_s p(x|s) / W_b p(x|b)) with the
    class sums W of the training weights; taking ln(W_s / W_b) off and adding ln(N_s / N_b) of the evaluation weights
    gives ln(N_s p(x|s) / N_b p(x|b)) (exact for weights proportional to the evaluation weights within a class).

    Args:
        estimator: scikit-learn-compatible binary classifier; logistic regression when None.
        training_weights: `balanced`, `sqrt_balanced`, `physical` or `none`.
        weighted: whether the estimator's `fit` takes sample_weight.
        negative_weights: what training does with events of negative weight (next-to-leading-order generators): `drop`
            leaves them out, `absolute` takes the magnitude, `zero` trains with weight zero; None refuses them. The
            prior is always the signed sum.
        log_odds: how to read log-odds off the fitted estimator; None for `decision_function` or the logit of
            `predict_proba`.

    Attributes:
        estimator_: the fitted submodel.
        prior_shift_: what is added to the submodel's log-odds.
    """

    def __init__(
        self,
        estimator: Any = None,
        *,
        training_weights: str = "balanced",
        weighted: bool = True,
        negative_weights: str | None = None,
        log_odds: LogOddsReader | None = None,
    ) -> None:
        self.estimator = estimator
        self.training_weights = training_weights
        self.weighted = weighted
        self.negative_weights = negative_weights
        self.log_odds = log_odds

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> PhysicalClassifier:
        """Fit on X (n, p), y (n,) with evaluation weights sample_weight (n,).

        Raises:
            ValueError: for malformed input, a single class or a class whose weights do not sum to a positive number.
        """
        X_, y_, w = self._checked_fit(X, y, sample_weight)
        estimator = LogisticRegression() if self.estimator is None else clone(self.estimator)
        usable, kept = without_negative(w, self.negative_weights)
        train = training_weights(y_[kept], usable[kept], self.training_weights if self.weighted else "none")
        rows = X_ if kept.all() else X_[kept]
        fitted = fit_weighted(estimator, rows, y_[kept].astype(np.int64), train if self.weighted else None)
        self.estimator_ = fitted
        self.prior_shift_ = log_ratio(class_sums(y_, w)) - log_ratio(class_sums(y_[kept], train))
        return self

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return ln(N_s p(x|s) / N_b p(x|b)), shape (n,)."""
        X_ = self._checked_predict(X)
        return read_log_odds(self.estimator_, X_, self.log_odds) + self.prior_shift_


class JetSplitClassifier(PhysicalBase):
    """One submodel per group of events (the jet number), with scores that one cut can serve.

    Each submodel sees only its group and only the columns that carry something there: columns that are missing or
    constant in all of the group's training events are dropped. Its scores are shifted by its own group's
    ln(N_s,group / N_b,group), which makes them comparable between groups.

    Args:
        estimator: scikit-learn-compatible binary classifier, cloned per group; logistic regression when None.
        group_feature: index or (for frames) name of the column with the group number.
        groups: numbers that form one group each.
        keep_group_feature: whether submodels see the group column too.
        prior_correction: whether the group's ln(N_s,group / N_b,group) is added back. Without it the scores of the
            groups are concatenated as they are, which costs discovery power; for comparison only.
        training_weights: see `PhysicalClassifier`; applied inside each group.
        weighted: see `PhysicalClassifier`.
        negative_weights: see `PhysicalClassifier`.
        log_odds: see `PhysicalClassifier`.

    Attributes:
        submodels_: fitted `PhysicalClassifier` per group.
        columns_: indices of the columns that each submodel sees.
    """

    def __init__(
        self,
        estimator: Any = None,
        *,
        group_feature: int | str = "PRI_jet_num",
        groups: Sequence[Sequence[int]] = ((0,), (1,), (2, 3)),
        keep_group_feature: bool = True,
        prior_correction: bool = True,
        training_weights: str = "balanced",
        weighted: bool = True,
        negative_weights: str | None = None,
        log_odds: LogOddsReader | None = None,
    ) -> None:
        self.estimator = estimator
        self.group_feature = group_feature
        self.groups = groups
        self.keep_group_feature = keep_group_feature
        self.prior_correction = prior_correction
        self.training_weights = training_weights
        self.weighted = weighted
        self.negative_weights = negative_weights
        self.log_odds = log_odds

    @property
    def group_column(self) -> int:
        """Index of the column with the group number, among the columns seen in `fit`."""
        return self.column_index(self.group_feature, "group_feature")

    def _members(self, X: NDArray[Any]) -> NDArray[np.int64]:
        values = X[:, self.group_column]
        if np.isnan(values).any():
            raise ModelError("group_feature: the group number is missing in some events")
        if (values != np.floor(values)).any():
            broken = values[values != np.floor(values)][0]
            raise ModelError(f"group_feature: {broken} is not a whole number")
        return group_index(values.astype(np.int64), self.groups)

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> JetSplitClassifier:
        """Fit one submodel per group on X (n, p), y (n,) with evaluation weights sample_weight (n,).

        Raises:
            ConfigError: if an event stands in no group.
            ModelError: if a group number is missing or not whole, or a group lacks a class with positive weight.
            ValueError: for malformed input.
        """
        X_, y_, w = self._checked_fit(X, y, sample_weight)
        member = self._members(X_)
        self.submodels_: list[PhysicalClassifier] = []
        self.columns_: list[NDArray[np.intp]] = []
        for position, numbers in enumerate(self.groups):
            rows = np.flatnonzero(member == position)
            submodel = submodel_of(self, numbers, y_[rows], w[rows])
            columns = self._useful_columns(X_, rows)
            submodel.fit(X_[np.ix_(rows, columns)], y_[rows], w[rows])
            if not self.prior_correction:
                submodel.prior_shift_ -= log_ratio(class_sums(y_[rows], w[rows]))
            self.submodels_.append(submodel)
            self.columns_.append(columns)
        return self

    def _useful_columns(self, X: NDArray[Any], rows: NDArray[np.intp]) -> NDArray[np.intp]:
        useful = np.array([is_useful(X[rows, column]) for column in range(X.shape[1])])
        if not self.keep_group_feature:
            useful[self.group_column] = False
        if not useful.any():
            useful[0] = True
        return np.flatnonzero(useful)

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return ln(N_s p(x|s) / N_b p(x|b)), shape (n,), on one scale for all groups."""
        X_ = self._checked_predict(X)
        member = self._members(X_)
        scores = np.empty(X_.shape[0])
        for position, (submodel, columns) in enumerate(zip(self.submodels_, self.columns_, strict=True)):
            rows = np.flatnonzero(member == position)
            if rows.size:
                scores[rows] = submodel.decision_function(X_[np.ix_(rows, columns)])
        return scores


def submodel_of(
    split: JetSplitClassifier, numbers: Sequence[int], y: NDArray[Any], weight: NDArray[np.float64]
) -> PhysicalClassifier:
    """Return the unfitted model of a group of `split`, of classes y (n,) and evaluation weights (n,).

    Raises:
        ModelError: if the group lacks a class with positive weight.
    """
    if not min(class_sums(y, weight)) > 0.0:
        raise ModelError(f"jet_groups: group {list(numbers)} needs training events of both classes")
    return PhysicalClassifier(
        split.estimator,
        training_weights=split.training_weights,
        weighted=split.weighted,
        negative_weights=split.negative_weights,
        log_odds=split.log_odds,
    )


Fit = Callable[[Training], Any]


def fit_from_disk(
    estimator: PhysicalClassifier | JetSplitClassifier,
    fit: Fit,
    data: RowsOnDisk,
    y: NDArray[np.bool_],
    weight: NDArray[np.float64],
    numbers: NDArray[np.int64] | None,
) -> None:
    """Fit a meta-estimator in place, as its own `fit` does in memory.

    Args:
        estimator: global, or split by a group column that is the last one.
        fit: trains the submodel.
        data: (n, p) features, without the group column.
        y: (n,) truth.
        weight: (n,) evaluation weights.
        numbers: (n,) group numbers of a split estimator.

    Raises:
        ConfigError: if an event stands in no group.
        ModelError: if a group lacks a class with positive weight.
    """
    if isinstance(estimator, PhysicalClassifier):
        _fit_global(estimator, fit, data, y, weight)
        return
    if numbers is None:
        raise ValueError("a split estimator needs group numbers")
    _fit_split(estimator, fit, data, y, weight, group_index(numbers, estimator.groups))


def _fit_global(
    estimator: PhysicalClassifier, fit: Fit, data: RowsOnDisk, y: NDArray[np.bool_], weight: NDArray[np.float64]
) -> None:
    usable, kept = without_negative(weight, estimator.negative_weights)
    scheme = estimator.training_weights if estimator.weighted else "none"
    train = training_weights(y[kept], usable[kept], scheme)
    rows = data if kept.all() else data.chosen(np.flatnonzero(kept))
    estimator.estimator_ = fit(Training(rows, y[kept], train))
    estimator.classes_, estimator.n_features_in_ = np.array([0, 1]), data.width
    estimator.prior_shift_ = log_ratio(class_sums(y, weight)) - log_ratio(class_sums(y[kept], train))


def _fit_split(
    estimator: JetSplitClassifier,
    fit: Fit,
    data: RowsOnDisk,
    y: NDArray[np.bool_],
    weight: NDArray[np.float64],
    member: NDArray[np.int64],
) -> None:
    estimator.classes_, estimator.n_features_in_ = np.array([0, 1]), data.width + 1
    estimator.submodels_, estimator.columns_ = [], []
    for position, numbers in enumerate(estimator.groups):
        rows = np.flatnonzero(member == position)
        submodel = submodel_of(estimator, numbers, y[rows], weight[rows])
        useful = [is_useful(data.X[data.rows[rows], column]) for column in range(data.width)]
        columns = np.flatnonzero(useful) if any(useful) else np.zeros(1, dtype=np.intp)
        _fit_global(submodel, fit, RowsOnDisk(data.X, data.rows[rows], columns), y[rows], weight[rows])
        estimator.submodels_.append(submodel)
        estimator.columns_.append(columns)


_SCHEMES = ("training_weights", "weighted", "negative_weights")


def _schemes(estimator: PhysicalClassifier | JetSplitClassifier) -> Node:
    # A bag of seeds reads its members' log-odds by itself; the model's own reader is for single estimators.
    return {**{name: getattr(estimator, name) for name in _SCHEMES}, "reader": estimator.log_odds is not None}


def _fitted(estimator: Any, node: Node) -> Any:
    estimator.classes_ = np.array([0, 1])
    estimator.n_features_in_ = int(node["features"])
    return estimator


class PhysicalCodec:
    """`PhysicalClassifier`.

    Args:
        log_odds: how the model's record in the registry reads log-odds off the submodel; code is never stored.
    """

    kind = "physical"

    def __init__(self, log_odds: LogOddsReader | None) -> None:
        self.log_odds = log_odds

    def handles(self, estimator: Any) -> bool:
        """Whether this is a `PhysicalClassifier`."""
        return type(estimator) is PhysicalClassifier

    def save(self, estimator: PhysicalClassifier, writer: ModelWriter) -> Node:
        """Store the shift of the prior and the submodel."""
        return {
            **_schemes(estimator),
            "features": estimator.n_features_in_,
            "prior_shift": estimator.prior_shift_,
            "estimator": writer.node(estimator.estimator_),
        }

    def load(self, node: Node, reader: ModelReader) -> PhysicalClassifier:
        """Rebuild it around its submodel.

        Raises:
            StoreError: if the shift is no finite number.
        """
        how = {name: node[name] for name in _SCHEMES}
        estimator = PhysicalClassifier(**how, log_odds=self.log_odds if node["reader"] else None)
        estimator.estimator_ = reader.estimator(node["estimator"])
        estimator.prior_shift_ = float(node["prior_shift"])
        if not np.isfinite(estimator.prior_shift_):
            raise StoreError("its shift of the prior is no finite number")
        return _fitted(estimator, node)  # type: ignore[no-any-return]


class JetSplitCodec:
    """`JetSplitClassifier`.

    Args:
        log_odds: see `PhysicalCodec`.
    """

    kind = "jets"

    def __init__(self, log_odds: LogOddsReader | None) -> None:
        self.log_odds = log_odds

    def handles(self, estimator: Any) -> bool:
        """Whether this is a `JetSplitClassifier`."""
        return type(estimator) is JetSplitClassifier

    def save(self, estimator: JetSplitClassifier, writer: ModelWriter) -> Node:
        """Store the groups, the columns of each, and the submodels."""
        return {
            **_schemes(estimator),
            "features": estimator.n_features_in_,
            "group_feature": estimator.group_column,
            "groups": [[int(number) for number in group] for group in estimator.groups],
            "columns": [[int(column) for column in columns] for columns in estimator.columns_],
            "submodels": [writer.node(submodel) for submodel in estimator.submodels_],
        }

    def load(self, node: Node, reader: ModelReader) -> JetSplitClassifier:
        """Rebuild it around its submodels.

        Raises:
            StoreError: if groups, columns and submodels do not fit together.
        """
        features = int(node["features"])
        groups = tuple(tuple(int(number) for number in group) for group in node["groups"])
        columns = [np.array([int(c) for c in chosen], dtype=np.intp) for chosen in node["columns"]]
        if not len(groups) == len(columns) == len(node["submodels"]):
            raise StoreError("it does not have one submodel and one choice of columns per group")
        if any(((chosen < 0) | (chosen >= features)).any() for chosen in columns):
            raise StoreError("a submodel sees a column that is not there")
        how = {name: node[name] for name in _SCHEMES}
        estimator = JetSplitClassifier(
            group_feature=int(node["group_feature"]),
            groups=groups,
            **how,
            log_odds=self.log_odds if node["reader"] else None,
        )
        estimator.submodels_ = [reader.estimator(submodel) for submodel in node["submodels"]]
        estimator.columns_ = columns
        return _fitted(estimator, node)  # type: ignore[no-any-return]


def unit_codecs(spec: ModelSpec) -> tuple[Codec, ...]:
    """Return what stores the fitted meta-estimators of a model and reads them back."""
    from higgsbench.models import storage_codecs
    from higgsbench.models.storage import bag_codec

    own = (PhysicalCodec(spec.log_odds), JetSplitCodec(spec.log_odds), bag_codec(spec.log_odds))
    return (*own, *storage_codecs(spec))
