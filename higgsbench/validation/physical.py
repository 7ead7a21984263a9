"""Meta-estimators whose scores are log-odds in physical normalisation, global and split by jet number."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.utils.validation import check_is_fitted, validate_data

from higgsbench.errors import ModelError, StoreError
from higgsbench.models.estimators import FromLogOdds, fit_weighted, read_log_odds, two_classes
from higgsbench.models.spec import RowsOnDisk, Training
from higgsbench.validation import group_index, training_weights, without_negative

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from higgsbench.models import ModelSpec
    from higgsbench.models.storage import Codec, ModelReader, ModelWriter, Node

LogOddsReader = Callable[[Any, "NDArray[Any]"], "NDArray[Any]"]
Train = Callable[[Training], Any]
"""Trains a submodel on some events with their training weights; returns it fitted."""

_SCHEMES = ("training_weights", "weighted", "negative_weights")


def class_sums(y: NDArray[np.bool_], w: NDArray[np.float64]) -> tuple[float, float]:
    """Summed weights of signal and background."""
    return float(np.sum(w[y])), float(np.sum(w[~y]))


def log_ratio(sums: tuple[float, float]) -> float:
    """Logarithm of the ratio of two sums."""
    return float(np.log(sums[0]) - np.log(sums[1]))


def is_useful(values: NDArray[Any]) -> bool:
    """Whether a column (n,) carries information: it is neither constant nor missing throughout.

    A column that is missing in only some events is informative even if its present values are all the same.
    """
    missing = np.isnan(values)
    present = values[~missing]
    return bool(present.size and (missing.any() or present.min() < present.max()))


class PhysicalBase(FromLogOdds, ClassifierMixin, MetaEstimatorMixin, BaseEstimator):  # type: ignore[misc]  # untyped library
    """What all meta-estimators share: checks of their input, and the training of a submodel."""

    classes_: NDArray[Any]
    n_features_in_: int
    estimator: Any
    weighted: bool

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

    def _train(self, events: Training) -> Any:
        """Train a clone of the submodel (logistic regression where there is none) on events in memory."""
        estimator = LogisticRegression() if self.estimator is None else clone(self.estimator)
        weight = events.weight if self.weighted else None
        more = {} if events.spectator is None else {"spectator": events.spectator}
        return fit_weighted(estimator, events.data.values(), events.y.astype(np.int64), weight, **more)

    def _checked_predict(self, X: ArrayLike) -> NDArray[Any]:
        check_is_fitted(self)
        checked: NDArray[Any] = validate_data(
            self, X, dtype=[np.float64, np.float32], ensure_all_finite="allow-nan", reset=False
        )
        return checked

    def column_index(self, column: int | str, parameter: str) -> int:
        """Return the index of a column seen in `fit`, given by index or, where that was a frame, by name.

        Raises:
            ModelError: naming the parameter that asks for it, if there is no such column.
        """
        if isinstance(column, str):
            names = list(getattr(self, "feature_names_in_", ()))
            if column not in names:
                raise ModelError(f"{parameter}: no column {column!r} among the features; pass its index for arrays")
            return names.index(column)
        if not -self.n_features_in_ <= column < self.n_features_in_:
            raise ModelError(f"{parameter}: index {column} is out of range for {self.n_features_in_} columns")
        return column % self.n_features_in_


@dataclass(eq=False, repr=False)
class PhysicalClassifier(PhysicalBase):
    """Train on weights made for training, score in physical normalisation.

    The submodel is trained on `training_weights` of mean 1. Its log-odds estimate ln(W_s p(x|s) / W_b p(x|b)) with the
    class sums W of the training weights; subtracting ln(W_s / W_b) and adding ln(N_s / N_b) of the evaluation weights
    gives ln(N_s p(x|s) / N_b p(x|b)) (exact for weights proportional to the evaluation weights within a class).

    `predict` returns the more probable class, which is background for nearly every event; a useful selection cuts on
    `decision_function` (see `higgsbench.best_cut`).

    Args:
        estimator: scikit-learn-compatible binary classifier; logistic regression when None.
        training_weights: `balanced`, `sqrt_balanced`, `physical` or `none`.
        weighted: whether the estimator's `fit` takes sample_weight.
        negative_weights: what training does with events of negative weight (next-to-leading-order generators): `drop`
            leaves them out, `absolute` takes the magnitude, `zero` trains with weight zero, `resample` shares them
            among neighbouring events (`higgsbench.validation`); None refuses them. The prior is always the
            signed sum.
        log_odds: how to read log-odds off the fitted estimator; None for `decision_function` or the logit of
            `predict_proba`.

    Attributes:
        estimator_: the fitted submodel.
        prior_shift_: what is added to the submodel's log-odds.

    Example:
        >>> from sklearn.ensemble import HistGradientBoostingClassifier
        >>> events = higgsbench.load_events("events.csv")
        >>> X = events.frame.select("DER_mass_MMC", "DER_mass_vis", "DER_deltar_tau_lep")
        >>> trees = HistGradientBoostingClassifier(max_iter=20, random_state=0)
        >>> model = higgsbench.PhysicalClassifier(trees).fit(X, events.y, sample_weight=events.weight)
        >>> score = model.decision_function(X)  # ln(N_s p(x|s) / N_b p(x|b))
    """

    estimator: Any = None
    _: KW_ONLY
    training_weights: str = "balanced"
    weighted: bool = True
    negative_weights: str | None = None
    log_odds: LogOddsReader | None = None

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        process: ArrayLike | None = None,
        spectator: NDArray[np.float32] | None = None,
    ) -> PhysicalClassifier:
        """Fit on X (n, p), y (n,) with evaluation weights sample_weight (n,), and numbers of the processes (n,).

        Only `negative_weights="resample"` uses the processes; the spectator (n,) goes to submodels that take one.

        Raises:
            ValueError: for malformed input, a single class or a class whose weights do not sum to a positive number.
        """
        X_, y_, w = self._checked_fit(X, y, sample_weight)
        known = None if process is None else np.asarray(process)
        self.fit_rows(self._train, RowsOnDisk(X_, np.arange(y_.size)), y_, w, known, spectator)
        return self

    def fit_rows(
        self,
        train: Train,
        data: RowsOnDisk,
        y: NDArray[np.bool_],
        w: NDArray[np.float64],
        process: NDArray[np.int64] | None = None,
        spectator: NDArray[np.float32] | None = None,
    ) -> None:
        """Fit in place on data (n, p) in memory or on disk, truth, evaluation weights, processes, spectator (n,)."""
        usable, kept = without_negative(w, self.negative_weights, y, data.values, process)
        weight = training_weights(y[kept], usable[kept], self.training_weights if self.weighted else "none")
        used = data if kept.all() else data.chosen(np.flatnonzero(kept))
        own = None if spectator is None else spectator[kept]
        self.estimator_ = train(Training(used, y[kept], weight, own))
        self.prior_shift_ = log_ratio(class_sums(y, w)) - log_ratio(class_sums(y[kept], weight))

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return ln(N_s p(x|s) / N_b p(x|b)), shape (n,)."""
        X_ = self._checked_predict(X)
        return read_log_odds(self.estimator_, X_, self.log_odds) + self.prior_shift_


@dataclass(eq=False, repr=False)
class JetSplitClassifier(PhysicalBase):
    """One submodel per group of events (the jet number), with scores on one scale, so that one cut serves all.

    Each submodel sees only its group and only the columns that carry information there: columns that are missing or
    constant in all of the group's training events are dropped. Its scores are shifted by its own group's
    ln(N_s,group / N_b,group), which makes them comparable between groups.

    Args:
        estimator: scikit-learn-compatible binary classifier, cloned per group; logistic regression when None.
        group_feature: index or (for frames) name of the column with the group number.
        groups: numbers that form one group each.
        keep_group_feature: whether submodels see the group column too.
        categories: number of categorical columns, which come first; each submodel sees all of them.
        prior_correction: whether the group's ln(N_s,group / N_b,group) is added back. Without it the scores of the
            groups are concatenated as they are, which costs discovery power; for comparison only.
        training_weights, weighted, negative_weights, log_odds: see `PhysicalClassifier`; applied inside each group.

    Attributes:
        submodels_: fitted `PhysicalClassifier` per group.
        columns_: indices of the columns that each submodel sees.

    Example:
        >>> from sklearn.ensemble import HistGradientBoostingClassifier
        >>> events = higgsbench.load_events("events.csv")
        >>> X = events.frame.select("PRI_jet_num", "DER_mass_MMC", "DER_mass_jet_jet")
        >>> trees = HistGradientBoostingClassifier(max_iter=20, random_state=0)
        >>> model = higgsbench.JetSplitClassifier(trees).fit(X, events.y, sample_weight=events.weight)
        >>> len(model.submodels_)
        3
    """

    estimator: Any = None
    _: KW_ONLY
    group_feature: int | str = "PRI_jet_num"
    groups: Sequence[Sequence[int]] = ((0,), (1,), (2, 3))
    keep_group_feature: bool = True
    categories: int = 0
    prior_correction: bool = True
    training_weights: str = "balanced"
    weighted: bool = True
    negative_weights: str | None = None
    log_odds: LogOddsReader | None = None

    @property
    def group_column(self) -> int:
        """Index of the column with the group number, among the columns seen in `fit`."""
        return self.column_index(self.group_feature, "group_feature")

    def _members(self, X: NDArray[Any]) -> NDArray[np.int64]:
        values = X[:, self.group_column]
        if np.isnan(values).any():
            raise ModelError("group_feature: the group number is missing in some events")
        broken = values[values != np.floor(values)]
        if broken.size:
            raise ModelError(f"group_feature: {broken[0]} is not a whole number")
        return group_index(values.astype(np.int64), self.groups)

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        process: ArrayLike | None = None,
        spectator: NDArray[np.float32] | None = None,
    ) -> JetSplitClassifier:
        """Fit one submodel per group on X (n, p), y (n,) with evaluation weights sample_weight (n,).

        `process` and `spectator` as for `PhysicalClassifier`.

        Raises:
            ConfigError: if an event belongs to no group.
            ModelError: if a group number is missing or not whole, or a group lacks a class with positive weight.
            ValueError: for malformed input.
        """
        X_, y_, w = self._checked_fit(X, y, sample_weight)
        known = None if process is None else np.asarray(process)
        self.fit_rows(self._train, RowsOnDisk(X_, np.arange(y_.size)), y_, w, self._members(X_), known, spectator)
        return self

    def fit_rows(
        self,
        train: Train,
        data: RowsOnDisk,
        y: NDArray[np.bool_],
        w: NDArray[np.float64],
        member: NDArray[np.int64],
        process: NDArray[np.int64] | None = None,
        spectator: NDArray[np.float32] | None = None,
    ) -> None:
        """Fit in place on data (n, p), truth, evaluation weights, positions of the groups, processes, spectator (n,).

        Raises:
            ModelError: if a group lacks a class with positive weight.
        """
        self.submodels_: list[PhysicalClassifier] = []
        self.columns_: list[NDArray[np.intp]] = []
        dropped = None if self.keep_group_feature else self.group_column
        candidates = [column for column in range(data.width) if column != dropped]
        schemes = {name: getattr(self, name) for name in (*_SCHEMES, "log_odds")}
        for position, numbers in enumerate(self.groups):
            rows = np.flatnonzero(member == position)
            sums = class_sums(y[rows], w[rows])
            if not min(sums) > 0.0:
                raise ModelError(f"jet_groups: group {list(numbers)} needs training events of both classes")
            carrying = [c for c in candidates if c < self.categories or is_useful(data.X[data.rows[rows], c])]
            columns = np.array(carrying or [0], dtype=np.intp)
            submodel = PhysicalClassifier(self.estimator, **schemes)
            submodel.classes_, submodel.n_features_in_ = np.array([0, 1]), columns.size
            known = None if process is None else process[rows]
            own = None if spectator is None else spectator[rows]
            submodel.fit_rows(train, RowsOnDisk(data.X, data.rows[rows], columns), y[rows], w[rows], known, own)
            if not self.prior_correction:
                submodel.prior_shift_ -= log_ratio(sums)
            self.submodels_.append(submodel)
            self.columns_.append(columns)

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return ln(N_s p(x|s) / N_b p(x|b)), shape (n,), on one scale for all groups."""
        X_ = self._checked_predict(X)
        scores = np.empty(X_.shape[0])
        for submodel, rows, columns in self.parts(X_):
            scores[rows] = submodel.decision_function(X_[np.ix_(rows, columns)])
        return scores

    def parts(self, X: NDArray[Any]) -> Iterator[tuple[PhysicalClassifier, NDArray[np.intp], NDArray[np.intp]]]:
        """Yield the submodels that have events among these (n, p), with the rows and columns that each of them sees."""
        member = self._members(X)
        for position, (submodel, columns) in enumerate(zip(self.submodels_, self.columns_, strict=True)):
            rows = np.flatnonzero(member == position)
            if rows.size:
                yield submodel, rows, columns


@dataclass(frozen=True)
class MetaCodec:
    """Stores a `PhysicalClassifier` (kind `physical`) or a `JetSplitClassifier` (kind `jets`) around its submodels.

    Code is never stored: how to read log-odds off a submodel comes from the model's record in the registry.
    """

    kind: str
    log_odds: LogOddsReader | None

    def handles(self, estimator: Any) -> bool:
        """Whether the estimator is of this kind."""
        return type(estimator) is (PhysicalClassifier if self.kind == "physical" else JetSplitClassifier)

    def save(self, estimator: PhysicalClassifier | JetSplitClassifier, writer: ModelWriter) -> Node:
        """Store parameters, shifts, groups and columns as JSON values, and the submodels in formats of their own."""
        # A bag of seeds reads its members' log-odds by itself; the model's own reader is for single estimators.
        node = {name: getattr(estimator, name) for name in _SCHEMES}
        node |= {"reader": estimator.log_odds is not None, "features": estimator.n_features_in_}
        if isinstance(estimator, PhysicalClassifier):
            return {**node, "prior_shift": estimator.prior_shift_, "estimator": writer.node(estimator.estimator_)}
        return {
            **node,
            "group_feature": estimator.group_column,
            "groups": [list(map(int, group)) for group in estimator.groups],
            "columns": [columns.tolist() for columns in estimator.columns_],
            "submodels": [writer.node(submodel) for submodel in estimator.submodels_],
        }

    def load(self, node: Node, reader: ModelReader) -> PhysicalClassifier | JetSplitClassifier:
        """Rebuild the estimator around its submodels; a StoreError says if they do not fit its groups and columns."""
        how = {name: node[name] for name in _SCHEMES} | {"log_odds": self.log_odds if node["reader"] else None}
        estimator: PhysicalClassifier | JetSplitClassifier
        if self.kind == "physical":
            estimator = PhysicalClassifier(**how)
            estimator.estimator_, estimator.prior_shift_ = reader.estimator(node["estimator"]), node["prior_shift"]
            fits = bool(np.isfinite(estimator.prior_shift_))
        else:
            groups = tuple(tuple(map(int, group)) for group in node["groups"])
            estimator = JetSplitClassifier(group_feature=int(node["group_feature"]), groups=groups, **how)
            estimator.submodels_ = [reader.estimator(submodel) for submodel in node["submodels"]]
            estimator.columns_ = [np.array(chosen, dtype=np.intp) for chosen in node["columns"]]
            fits = len(groups) == len(estimator.columns_) == len(estimator.submodels_) and not any(
                ((chosen < 0) | (chosen >= int(node["features"]))).any() for chosen in estimator.columns_
            )
        if not fits:
            raise StoreError("its shift, groups, columns and submodels do not fit together")
        estimator.classes_, estimator.n_features_in_ = np.array([0, 1]), int(node["features"])
        return estimator


def unit_codecs(spec: ModelSpec) -> tuple[Codec, ...]:
    """Return what stores the fitted meta-estimators of a model and reads them back."""
    from higgsbench.models import storage_codecs
    from higgsbench.models.storage import BagCodec

    meta = (MetaCodec("physical", spec.log_odds), MetaCodec("jets", spec.log_odds))
    return (*meta, BagCodec(spec.log_odds), *storage_codecs(spec))
