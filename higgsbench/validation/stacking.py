"""A stack of any classifiers as one scikit-learn estimator whose scores are log-odds in physical normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import polars as pl
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import _BaseComposition
from sklearn.utils.parallel import Parallel, delayed

from higgsbench.ensemble.blend import cross_fitted_blend, fit_blend
from higgsbench.metrics.weights import evaluation_weights
from higgsbench.models.estimators import fit_weighted
from higgsbench.validation import fold_assignments
from higgsbench.validation.physical import PhysicalBase, PhysicalClassifier

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

Table: TypeAlias = "NDArray[Any] | pl.DataFrame"


@dataclass(eq=False, repr=False)
class StackingEnsemble(PhysicalBase, _BaseComposition):  # type: ignore[misc]  # untyped library
    """Blend of several classifiers, fitted on their out-of-fold log-odds in physical normalisation.

    Every member is trained on all folds but one and scores the fold it has not seen; the blend is fitted on these
    scores (D. H. Wolpert, Stacked generalization, Neural Networks 5, 1992) with evaluation weights. A member that
    is not a `PhysicalClassifier`, `JetSplitClassifier` or `StackingEnsemble` (or a Pipeline that ends in one) is put
    into a `PhysicalClassifier`, so that all members score on one scale.

    New events are scored by members fitted once more on all events, or, with `refit=False`, by the mean log-odds of the
    members of the folds: no further fits, more time per event, and the same kind of scores as the blend was fitted on.

    Args:
        estimators: (name, classifier) pairs; two kinds of regularisation of a logistic regression when None.
        method: `mean`, `nonnegative`, `greedy` or `logistic`.
        cv: number of folds, at least 2, stratified by class; each class needs as many events.
        stratify_by: index or (for frames) name of a column of whole numbers (the jet number) by which the folds are
            stratified too.
        training_weights: scheme of members that are put into a `PhysicalClassifier`.
        negative_weights: their policy for negative weights.
        refit: whether members are fitted once more on all events.
        random_state: seed of the folds; members have seeds of their own.
        n_jobs: fits at a time, as in scikit-learn.

    Attributes:
        blend_: the fitted blend: `coefficients`, `intercept`, `members`.
        members_: for each member the fitted classifiers whose mean log-odds enter the blend: one, or one per fold.
        fold_: (n,) fold of each event of the fit.
        oof_member_scores_: (n, m) out-of-fold log-odds of the members.
        oof_decision_function_: (n,) out-of-fold log-odds of the stack: each fold blended by a fit to the other folds.
            Compute cuts (`higgsbench.best_cut`) and honest metrics from these.

    Example:
        >>> from sklearn.ensemble import HistGradientBoostingClassifier
        >>> from sklearn.linear_model import LogisticRegression
        >>> events = higgsbench.load_events("events.csv")
        >>> X = events.frame.select("DER_mass_vis", "DER_deltar_tau_lep", "PRI_tau_pt")
        >>> pair = [("line", LogisticRegression()), ("trees", HistGradientBoostingClassifier(random_state=0))]
        >>> stack = higgsbench.StackingEnsemble(pair, cv=3).fit(X, events.y, sample_weight=events.weight)
        >>> higgsbench.best_cut(events.y, stack.oof_decision_function_, events.weight).ams > 1.0
        True
    """

    estimators: Sequence[tuple[str, Any]] | None = None
    _: KW_ONLY
    method: str = "nonnegative"
    cv: int = 5
    stratify_by: int | str | None = None
    training_weights: str = "balanced"
    negative_weights: str | None = None
    refit: bool = True
    random_state: Any = 0
    n_jobs: int | None = None

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters, with those of the members as `name__parameter`."""
        found: dict[str, Any] = self._get_params("estimators", deep=deep)
        return found

    def set_params(self, **params: Any) -> StackingEnsemble:
        """Set parameters of the ensemble, replace members by name, or set members' `name__parameter`."""
        self._set_params("estimators", **params)
        return self

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tagged = [e for _, e in self._named() if hasattr(e, "__sklearn_tags__")]
        tags.input_tags.allow_nan = all(e.__sklearn_tags__().input_tags.allow_nan for e in tagged)
        return tags

    def _named(self) -> list[tuple[str, Any]]:
        if self.estimators is None:
            return [("weak", LogisticRegression(C=1.0)), ("strong", LogisticRegression(C=0.01))]
        return list(self.estimators)

    def _built(self) -> list[tuple[str, Any]]:
        """Return clones of the members, each of which scores in physical normalisation."""
        named: list[Any] = self._named()
        if not named or any(not isinstance(pair, tuple) or len(pair) != 2 for pair in named):
            raise ValueError("estimators: expected a list of (name, classifier) pairs, at least one")
        self._validate_names([name for name, _ in named])
        schemes: dict[str, Any] = {name: getattr(self, name) for name in ("training_weights", "negative_weights")}
        built = []
        for name, estimator in named:
            last = estimator
            while isinstance(last, Pipeline):
                last = last.steps[-1][1]
            member = clone(estimator)
            built.append((name, member if isinstance(last, PhysicalBase) else PhysicalClassifier(member, **schemes)))
        return built

    def _folds(self, X: NDArray[Any], y: NDArray[np.bool_]) -> NDArray[np.int64]:
        if self.cv < 2:
            raise ValueError(f"cv: a stack needs at least 2 folds, not {self.cv}")
        for label, members in zip(self.classes_, (~y, y), strict=True):
            if int(members.sum()) < self.cv:
                raise ValueError(f"cv: {self.cv} folds need as many events of class {label}, not {int(members.sum())}")
        strata = None
        if self.stratify_by is not None:
            column = X[:, self.column_index(self.stratify_by, "stratify_by")]
            strata = np.unique(column, return_inverse=True)[1].astype(np.int64)
        seed = self.random_state
        if not isinstance(seed, (int, np.integer)):
            seed = check_random_state(seed).randint(2**31 - 1)
        assigned: NDArray[np.int64] = fold_assignments(y, strata, self.cv, 1, int(seed))[0]
        return assigned

    def _table(self, X: NDArray[Any]) -> Table:
        """Give columns their names back: members select theirs by name."""
        names = getattr(self, "feature_names_in_", None)
        return X if names is None else pl.DataFrame(X, schema=[str(name) for name in names])

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> StackingEnsemble:
        """Fit members and blend on X (n, p), y (n,) with evaluation weights sample_weight (n,).

        Raises:
            ConfigError: if the method or a scheme of weights is not known.
            ModelError: if a named column does not exist.
            ValueError: for malformed input, members that are not pairs, or too few events for the folds.
        """
        named = self._built()
        X_, y_, w = self._checked_fit(X, y, sample_weight)
        totals = float(np.sum(w[y_])), float(np.sum(w[~y_]))
        self.fold_ = self._folds(X_, y_)
        table, fold = self._table(X_), self.fold_
        jobs = [(member, fold != k, fold == k) for _, member in named for k in range(self.cv)]
        if self.refit:
            everything = np.ones(y_.size, dtype=np.bool_)
            jobs += [(member, everything, ~everything) for _, member in named]
        done = Parallel(n_jobs=self.n_jobs)(
            delayed(_fitted)(clone(member), table, y_, w, totals, train, held_out) for member, train, held_out in jobs
        )
        F = np.empty((y_.size, len(named)))
        for position in range(len(named)):
            for k in range(self.cv):
                F[fold == k, position] = done[position * self.cv + k][1]
        fitted = [member for member, _ in done]
        size, start = (1, len(named) * self.cv) if self.refit else (self.cv, 0)
        self.members_ = [fitted[start + i * size : start + (i + 1) * size] for i in range(len(named))]
        names = tuple(name for name, _ in named)
        self.oof_member_scores_ = F
        self.oof_decision_function_, _ = cross_fitted_blend(self.method, names, F, y_, w, fold, totals)
        self.blend_ = fit_blend(self.method, names, F, y_, w, totals)
        return self

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return ln(N_s p(x|s) / N_b p(x|b)), shape (n,)."""
        table = self._table(self._checked_predict(X))
        columns = [np.mean([f.decision_function(table) for f in fitted], axis=0) for fitted in self.members_]
        return self.blend_(np.column_stack(columns))


def _fitted(
    member: Any,
    table: Any,
    y: NDArray[np.bool_],
    w: NDArray[np.float64],
    totals: tuple[float, float],
    train: NDArray[np.bool_],
    held_out: NDArray[np.bool_],
) -> tuple[Any, NDArray[np.float64]]:
    """Fit a member on some events, weights rescaled to the totals, and score others."""
    rows, others = np.flatnonzero(train), np.flatnonzero(held_out)
    weight = evaluation_weights(y[rows], w[rows], *totals)
    fitted = fit_weighted(member, table[rows], y[rows].astype(np.int64), weight)
    return fitted, fitted.decision_function(table[others]) if others.size else np.empty(0)
