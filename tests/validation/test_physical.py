"""The meta-estimators: exact prior shift, one scale for all jet groups, and scikit-learn's own rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from higgsbench import JetSplitClassifier, PhysicalClassifier
from higgsbench.errors import ConfigError, HiggsbenchError, ModelError
from higgsbench.metrics import ams, ams_scan, roc_auc


class LookUp(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """Classifier whose probabilities are the weighted shares seen in training, exact for discrete features."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> LookUp:
        w = np.ones(len(y)) if sample_weight is None else sample_weight
        self.classes_ = np.unique(y)
        self.columns_ = X.shape[1]
        self.share_: dict[Any, float] = {}
        for cell in {tuple(row) for row in X.tolist()}:
            here = (np.array(cell) == X).all(axis=1)
            self.share_[cell] = float(w[here & (y == 1)].sum() / w[here].sum())
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        p = np.array([self.share_[tuple(row)] for row in X.tolist()])
        return np.column_stack([1.0 - p, p])

    def predict(self, X: Any) -> NDArray[np.int64]:
        return (self.predict_proba(X)[:, 1] > 0.5).astype(np.int64)


Events = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]


def table(cells: Sequence[tuple[tuple[float, ...], float, float]], copies: int = 40) -> Events:
    """Events of both classes in every cell, with weights that sum to the cell's signal and background."""
    X, y, w = [], [], []
    rng = np.random.default_rng(0)
    for cell, s, b in cells:
        for label, total in ((1, s), (0, b)):
            shares = rng.dirichlet(np.full(copies, 5.0))
            X += [cell] * copies
            y += [label] * copies
            w += (total * shares).tolist()
    return np.array(X), np.array(y), np.array(w)


CELLS = [((0.0,), 5.0, 9000.0), ((1.0,), 60.0, 5000.0), ((2.0,), 100.0, 700.0)]


@pytest.mark.parametrize("scheme", ["balanced", "physical"])
def test_prior_shift_is_exact(scheme: str) -> None:
    X, y, w = table(CELLS)
    model = PhysicalClassifier(LookUp(), training_weights=scheme).fit(X, y, w)
    for cell, s, b in CELLS:
        assert model.decision_function(np.array([cell]))[0] == pytest.approx(np.log(s / b), rel=1e-9)
        assert model.predict_proba(np.array([cell]))[0, 1] == pytest.approx(s / (s + b), rel=1e-9)
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1.0)
    np.testing.assert_array_equal(model.predict(X), 0)


def test_unweighted_training_still_meets_the_prior() -> None:
    """Without sample_weight the density ratio is right where weights do not vary within a class."""
    X, y, w = table(CELLS, copies=1)
    counts = np.array([4, 90, 9, 40, 20, 10])
    X, y = np.repeat(X, counts, axis=0), np.repeat(y, counts)
    w = np.where(y == 1, 0.002, 3.0)
    model = PhysicalClassifier(LookUp(), weighted=False).fit(X, y, w)
    s, b = counts[::2] * 0.002, counts[1::2] * 3.0
    cells = np.array([cell for cell, _, _ in CELLS])
    np.testing.assert_allclose(model.decision_function(cells), np.log(s / b), rtol=1e-9)


def test_weights_reach_the_submodel_of_a_pipeline() -> None:
    X, y, w = table(CELLS)
    inner = make_pipeline(make_pipeline(StandardScaler(), LogisticRegression()))
    a = PhysicalClassifier(inner).fit(X, y, w).decision_function(X)
    b = PhysicalClassifier(inner).fit(X, y, w * np.where(X[:, 0] == 2.0, 9.0, 1.0)).decision_function(X)
    assert np.abs(a - b).max() > 0.1


GROUPED = [
    # group 0 is nearly pure background, group 1 rich in signal; inside each, x tells the same
    ((0.0, 0.0), 10.0, 40_000.0),
    ((0.0, 1.0), 20.0, 4_000.0),
    ((1.0, 0.0), 30.0, 400.0),
    ((1.0, 1.0), 60.0, 80.0),
]


def best_ams(events: Events, score: NDArray[np.float64]) -> float:
    _, y, w = events
    return float(ams_scan(y, score, w).ams.max())


def analytic_optimum() -> float:
    """The best of all cuts on the true density ratio, cell by cell."""
    ordered = sorted(GROUPED, key=lambda c: -c[1] / c[2])
    sums = np.cumsum([[s, b] for _, s, b in ordered], axis=0)
    return max(ams(float(s), float(b)) for s, b in sums)


def test_only_corrected_scores_reach_the_known_optimum() -> None:
    """Cuts on simply concatenated scores must take x = 1 of the poor group before x = 0 of the rich one."""
    events = table(GROUPED)
    X, y, w = events
    choice: dict[str, Any] = {"group_feature": 0, "groups": ((0,), (1,))}
    corrected = JetSplitClassifier(LookUp(), **choice).fit(X, y, w).decision_function(X)
    plain = JetSplitClassifier(LookUp(), prior_correction=False, **choice).fit(X, y, w).decision_function(X)
    assert best_ams(events, corrected) == pytest.approx(analytic_optimum(), rel=1e-9)
    assert best_ams(events, plain) < 0.95 * analytic_optimum()
    assert roc_auc(y, corrected, w).value > roc_auc(y, plain, w).value + 0.02
    truth = {cell: np.log(s / b) for cell, s, b in GROUPED}
    np.testing.assert_allclose(corrected, [truth[tuple(row)] for row in X.tolist()], rtol=1e-9)
    for group in (0.0, 1.0):  # inside a group both order events alike
        here = X[:, 0] == group
        np.testing.assert_allclose(np.ptp((corrected - plain)[here]), 0.0, atol=1e-9)


def test_columns_without_content_are_dropped() -> None:
    rng = np.random.default_rng(0)
    n = 300
    jets = np.tile([0.0, 1.0, 2.0, 3.0], n // 4)
    y = rng.random(n) < 0.5
    leading = np.where(jets > 0, rng.normal(size=n), np.nan)
    sometimes = np.where(rng.random(n) < 0.5, 4.0, np.nan)
    X = np.column_stack([jets, rng.normal(size=n) + y, leading, np.where(jets > 1, 1.0, np.nan), sometimes])
    tree = HistGradientBoostingClassifier(max_iter=3)
    model = JetSplitClassifier(tree, group_feature=0).fit(X, y)
    assert [list(c) for c in model.columns_] == [[1, 4], [1, 2, 4], [0, 1, 2, 4]]
    model = JetSplitClassifier(tree, group_feature=-5, keep_group_feature=False).fit(X, y)
    assert [list(c) for c in model.columns_] == [[1, 4], [1, 2, 4], [1, 2, 4]]
    assert np.isfinite(model.decision_function(X)).all()


def test_a_group_without_any_useful_column_still_scores_its_prior() -> None:
    X = np.array([[0.0], [0.0], [1.0], [1.0]])
    model = JetSplitClassifier(group_feature=0, groups=((0,), (1,))).fit(X, [1, 0, 1, 0], [1.0, 9.0, 4.0, 1.0])
    np.testing.assert_allclose(model.decision_function(X)[[0, 2]], np.log([1 / 9, 4.0]), atol=1e-3)


def jets_and_labels(n: int = 200) -> tuple[pl.DataFrame, NDArray[np.bool_]]:
    rng = np.random.default_rng(3)
    y = rng.random(n) < 0.4
    frame = {"mass": rng.normal(size=n) + y, "PRI_jet_num": rng.integers(0, 4, n), "pt": rng.exponential(size=n)}
    return pl.DataFrame(frame), y


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"groups": ((0,), (1,))}, ConfigError, r"\[2, 3\] in the group column, which belong to no group"),
        ({"groups": ()}, ConfigError, "belong to no group"),
        ({"groups": ((0,), (1, 2, 3), (5,))}, ModelError, r"group \[5\] needs training events of both classes"),
        ({"group_feature": 3}, ModelError, "index 3 is out of range for 3 columns"),
        ({"group_feature": -4}, ModelError, "index -4 is out of range for 3 columns"),
        ({"group_feature": "jets"}, ModelError, "no column 'jets'"),
        ({"training_weights": "even"}, ConfigError, "'even' is not one of"),
    ],
)
def test_choices_that_cannot_be_are_refused(change: dict[str, Any], error: type[HiggsbenchError], message: str) -> None:
    X, y = jets_and_labels()
    with pytest.raises(error, match=message):
        JetSplitClassifier(**{"group_feature": "PRI_jet_num", **change}).fit(X, y)


def test_a_name_needs_a_frame() -> None:
    X, y = jets_and_labels()
    with pytest.raises(ModelError, match="pass its index for arrays"):
        JetSplitClassifier().fit(X.to_numpy(), y)


@pytest.mark.parametrize(
    ("value", "message"),
    [(9.0, r"\[9\] in the group column"), (0.5, "0.5 is not a whole number"), (None, "missing in some events")],
)
def test_a_group_number_that_cannot_be_is_refused(value: float | None, message: str) -> None:
    """Regression: 0.5 was taken for 0."""
    X, y = jets_and_labels()
    column = pl.when(pl.int_range(X.height) == 7).then(pl.lit(value, dtype=pl.Float64)).otherwise("PRI_jet_num")
    changed = X.with_columns(column.alias("PRI_jet_num"))
    with pytest.raises(HiggsbenchError, match=message):
        JetSplitClassifier().fit(changed, y)
    with pytest.raises(HiggsbenchError, match=message):
        JetSplitClassifier().fit(X, y).decision_function(changed)


BOTH = [PhysicalClassifier, JetSplitClassifier]


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("scheme", ["balanced", "physical", "none"])
@pytest.mark.parametrize("weight", [0.0, -1.0])
def test_a_class_without_weight_is_refused(cls: Any, scheme: str, weight: float) -> None:
    """Regression: scores became infinite or NaN, with a warning of a logarithm."""
    X, y = jets_and_labels()
    with pytest.raises(ValueError, match=r"the weights of class True sum to .*; both classes need a positive sum"):
        cls(training_weights=scheme).fit(X, y, np.where(y, weight, 1.0))


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("call", ["predict", "predict_proba", "decision_function"])
def test_unfitted_says_so(cls: Any, call: str) -> None:
    """Regression: the error was of a missing attribute."""
    from sklearn.exceptions import NotFittedError

    with pytest.raises(NotFittedError):
        getattr(cls(), call)(jets_and_labels()[0])


@pytest.mark.parametrize("cls", BOTH)
def test_grid_search(cls: Any) -> None:
    X, y = jets_and_labels()
    model = cls(DecisionTreeClassifier(max_depth=2, random_state=0), training_weights="sqrt_balanced")
    assert clone(model).get_params()["training_weights"] == "sqrt_balanced"
    grid = {"estimator__max_depth": [1, 2]}
    search = GridSearchCV(model, grid, cv=2, scoring="roc_auc").fit(X, y, sample_weight=np.where(y, 0.5, 2.0))
    assert search.best_params_["estimator__max_depth"] in (1, 2)
    assert not hasattr(model.estimator, "tree_"), "the given estimator is cloned, not fitted"


@pytest.mark.parametrize(
    ("reader", "message"),
    [
        (lambda e, X: np.full(len(X), np.nan), "returned NaN for 200 events"),
        (lambda e, X: np.zeros((len(X), 2)), r"scores of shape \(200, 2\) for 200 events"),
    ],
)
def test_scores_that_are_none_are_refused(reader: Callable[[Any, Any], Any], message: str) -> None:
    X, y = jets_and_labels()
    with pytest.raises(ModelError, match=message):
        PhysicalClassifier(log_odds=reader).fit(X, y).decision_function(X)


def test_certain_probabilities_stay_finite() -> None:
    X = np.array([[0.0], [0.0], [1.0], [1.0]])
    model = PhysicalClassifier(DecisionTreeClassifier()).fit(X, [0, 0, 1, 1])
    assert np.isfinite(model.decision_function(X)).all()


@pytest.mark.parametrize("cls", BOTH)
def test_negative_weights_need_a_policy(cls: Any) -> None:
    X, y = jets_and_labels()
    w = np.where(np.arange(200) % 7 == 0, -0.5, 1.0)
    with pytest.raises(ConfigError, match="events have negative weights; choose drop, absolute, zero or resample"):
        cls().fit(X, y, w)
    with pytest.raises(ConfigError, match="expected drop, absolute, zero or resample, got 'flip'"):
        cls(negative_weights="flip").fit(X, y, w)
    scores = [cls(negative_weights=p).fit(X, y, w).decision_function(X) for p in ("drop", "zero", "absolute")]
    np.testing.assert_allclose(scores[0], scores[1], atol=0.2)
    assert np.abs(scores[0] - scores[2]).mean() > 3 * np.abs(scores[0] - scores[1]).mean()


def test_the_prior_is_the_signed_sum() -> None:
    X, y = np.zeros((6, 1)), np.array([1, 1, 1, 0, 0, 0])
    w = np.array([1.0, 2.0, -1.0, 5.0, 5.0, -2.0])
    for policy in ("drop", "absolute", "zero"):
        model = PhysicalClassifier(LookUp(), negative_weights=policy).fit(X, y, w)
        assert model.decision_function(X)[0] == pytest.approx(np.log(2.0 / 8.0))
