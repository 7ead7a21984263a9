"""The stack as an estimator: out of fold, in physical normalisation, and by scikit-learn's rules."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks

from higgsbench import JetSplitClassifier, PhysicalClassifier, StackingEnsemble, best_cut
from higgsbench.ensemble.blend import cross_fitted_blend, fit_blend
from higgsbench.errors import ConfigError, MetricError, ModelError
from higgsbench.metrics import evaluation_weights, log_loss

NAMES = ["mass", "PRI_jet_num", "pt"]


def events(n: int = 400, seed: int = 3) -> tuple[pl.DataFrame, NDArray[np.bool_], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    y = rng.random(n) < 0.4
    frame = pl.DataFrame(
        {"mass": rng.normal(size=n) + y, "PRI_jet_num": rng.integers(0, 4, n), "pt": rng.exponential(size=n) + y**2}
    )
    return frame, y, np.where(y, 0.002, 2.0) * rng.uniform(0.5, 1.5, n)


def members() -> list[tuple[str, Any]]:
    return [("line", LogisticRegression()), ("bayes", GaussianNB())]


def by_hand(frame: Any, y: Any, w: Any, fold: NDArray[np.int64], totals: tuple[float, float]) -> NDArray[np.float64]:
    """Out-of-fold log-odds of `members()`, the plain way."""
    X, F = frame.to_numpy(), np.empty((y.size, 2))
    for position, (_, estimator) in enumerate(members()):
        for k in range(int(fold.max()) + 1):
            rest = fold != k
            model = PhysicalClassifier(estimator).fit(X[rest], y[rest], evaluation_weights(y[rest], w[rest], *totals))
            F[~rest, position] = model.decision_function(X[~rest])
    return F


@pytest.mark.parametrize("refit", [True, False])
def test_agrees_with_the_same_by_hand(refit: bool) -> None:
    frame, y, w = events()
    totals = float(w[y].sum()), float(w[~y].sum())
    model = StackingEnsemble(members(), cv=3, refit=refit).fit(frame, y, w)
    F = by_hand(frame, y, w, model.fold_, totals)
    np.testing.assert_allclose(model.oof_member_scores_, F, rtol=1e-6)
    blend = fit_blend("nonnegative", ("line", "bayes"), model.oof_member_scores_, y, w, totals)
    np.testing.assert_array_equal(model.blend_.coefficients, blend.coefficients)
    out, _ = cross_fitted_blend("nonnegative", ("line", "bayes"), model.oof_member_scores_, y, w, model.fold_, totals)
    np.testing.assert_array_equal(model.oof_decision_function_, out)
    new, X = events(50, seed=9)[0].to_numpy(), frame.to_numpy()
    expected = []
    for _, estimator in members():
        rows = [np.ones(y.size, dtype=bool)] if refit else [model.fold_ != k for k in range(3)]
        fits = [PhysicalClassifier(estimator).fit(X[r], y[r], evaluation_weights(y[r], w[r], *totals)) for r in rows]
        expected.append(np.mean([f.decision_function(new) for f in fits], axis=0))
    scores = model.decision_function(pl.DataFrame(new, schema=NAMES))
    np.testing.assert_allclose(scores, blend(np.column_stack(expected)), rtol=1e-6)
    assert [len(m) for m in model.members_] == [1 if refit else 3] * 2


def test_scores_are_physical_and_serve_a_cut() -> None:
    """A stack of a good and a useless member scores as the truth says, on data whose density ratio is known."""
    rng = np.random.default_rng(1)
    y = rng.random(20_000) < 0.3
    x = rng.normal(size=y.size) + np.where(y, 0.5, -0.5)  # ln p(x|s) / p(x|b) = x
    X = np.column_stack([x, rng.normal(size=y.size)])
    w = np.where(y, 0.01, 2.0)
    noise = make_pipeline(StandardScaler(), DecisionTreeClassifier(max_depth=8, random_state=0))
    model = StackingEnsemble([("good", LogisticRegression()), ("noise", noise)], cv=2).fit(X, y, w)
    truth = x + np.log(w[y].sum() / w[~y].sum())
    assert np.abs(model.decision_function(X) - truth).mean() < 0.15
    assert np.abs(model.oof_decision_function_ - truth).mean() < 0.15
    assert model.blend_.coefficients[0] > 4 * model.blend_.coefficients[1]
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1.0)
    threshold = best_cut(y, model.oof_decision_function_, w).threshold
    assert 0 < (model.decision_function(X) >= threshold).sum() < y.size


def test_out_of_fold_scores_do_not_know_their_own_labels() -> None:
    """A member that learns its events by heart scores perfectly what it has seen, and like noise what it has not."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(600, 3)), rng.random(600) < 0.5
    model = StackingEnsemble([("heart", DecisionTreeClassifier(random_state=0))], cv=3, method="mean").fit(X, y)
    assert ((model.decision_function(X) > 0) == y).all()
    assert abs(((model.oof_decision_function_ > 0) == y).mean() - 0.5) < 0.1


def test_members_may_be_split_by_jets_pipelines_and_stacks() -> None:
    frame, y, w = events(1200)
    jets = JetSplitClassifier(LogisticRegression())
    inner = StackingEnsemble(members(), cv=2)
    piped = make_pipeline(StandardScaler(), PhysicalClassifier(LogisticRegression()))
    model = StackingEnsemble(
        [("jets", jets), ("inner", inner), ("piped", piped)], cv=2, method="mean", stratify_by="PRI_jet_num"
    ).fit(frame, y, w)
    assert [type(fitted[0]) for fitted in model.members_] == [JetSplitClassifier, StackingEnsemble, type(piped)]
    assert not hasattr(jets, "submodels_"), "the given estimators are cloned, not fitted"
    groups = frame["PRI_jet_num"].to_numpy()
    for group in range(4):
        share = [(model.fold_[(groups == group) & y] == k).mean() for k in range(2)]
        assert abs(share[0] - share[1]) < 0.05
    constant = log_loss(y, np.full(y.size, model.blend_.prior), w)
    assert log_loss(y, model.oof_decision_function_, w).value < constant.value


def test_random_states() -> None:
    frame, y, w = events()
    fold = [StackingEnsemble(members(), cv=2, random_state=s).fit(frame, y, w).fold_ for s in (1, 1, 2)]
    np.testing.assert_array_equal(fold[0], fold[1])
    assert (fold[0] != fold[2]).any()
    drawn = StackingEnsemble(members(), cv=2, random_state=np.random.RandomState(5))
    assert (drawn.fit(frame, y, w).fold_ != drawn.fit(frame, y, w).fold_).any()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"cv": 1}, ValueError, "at least 2 folds, not 1"),
        ({"cv": 300}, ValueError, "300 folds need as many events of class False"),
        ({"estimators": []}, ValueError, r"expected a list of \(name, classifier\) pairs"),
        ({"estimators": [LogisticRegression()]}, ValueError, r"expected a list of \(name, classifier\) pairs"),
        ({"estimators": [("a", LogisticRegression())] * 2}, ValueError, "Names provided are not unique"),
        ({"estimators": [("cv", LogisticRegression())]}, ValueError, "conflict with constructor arguments"),
        ({"method": "median"}, ConfigError, "'median' is not one of"),
        ({"training_weights": "even"}, ConfigError, "'even' is not one of"),
        ({"stratify_by": "jets"}, ModelError, "stratify_by: no column 'jets'"),
        ({"stratify_by": 3}, ModelError, "stratify_by: index 3 is out of range for 3 columns"),
    ],
)
def test_choices_that_cannot_be_are_refused(change: dict[str, Any], error: type[Exception], message: str) -> None:
    frame, y, w = events()
    with pytest.raises(error, match=message):
        StackingEnsemble(**{"estimators": members(), "cv": 2, **change}).fit(frame, y, w)


def test_a_fold_without_weight_is_refused() -> None:
    frame, y, w = events()
    w = np.where(y & (np.arange(y.size) != int(np.flatnonzero(y)[0])), 0.0, w)
    with pytest.raises(MetricError, match="no signal to weight"):
        StackingEnsemble(members(), cv=2).fit(frame, y, w)


def test_negative_weights_need_a_policy() -> None:
    frame, y, w = events()
    w = np.where(np.arange(y.size) % 7 == 0, -0.2 * w, w)
    with pytest.raises(ConfigError, match="choose drop, absolute, zero or resample"):
        StackingEnsemble(members(), cv=2).fit(frame, y, w)
    model = StackingEnsemble(members(), cv=2, negative_weights="drop").fit(frame, y, w)
    assert np.isfinite(model.oof_decision_function_).all()


def test_missing_values_are_promised_only_where_all_members_take_them() -> None:
    """Regression: the tags promised NaN for every submodel."""
    trees = HistGradientBoostingClassifier()
    for model, promised in (
        (PhysicalClassifier(), False),
        (PhysicalClassifier(trees), True),
        (StackingEnsemble([("a", trees), ("b", LogisticRegression())]), False),
        (StackingEnsemble([("a", trees), ("b", PhysicalClassifier(trees))]), True),
    ):
        assert model.__sklearn_tags__().input_tags.allow_nan == promised


THREE = [PhysicalClassifier(), JetSplitClassifier(), StackingEnsemble(members(), cv=2)]


@pytest.mark.parametrize("estimator", THREE, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("kind", ["polars", "pandas", "numpy"])
def test_frames_and_arrays(estimator: Any, kind: str) -> None:
    frame, y, w = events()
    given: Any = frame
    choice = {"group_feature": 1} if kind == "numpy" and isinstance(estimator, JetSplitClassifier) else {}
    if kind == "pandas":
        given = pytest.importorskip("pandas").DataFrame(frame.to_dict(as_series=False))
    elif kind == "numpy":
        given = frame.to_numpy()
    model = clone(estimator).set_params(**choice).fit(given, y, w)
    expected = clone(estimator).fit(frame, y, w).decision_function(frame)
    np.testing.assert_allclose(model.decision_function(given), expected, rtol=1e-9)
    assert list(getattr(model, "feature_names_in_", [])) == ([] if kind == "numpy" else NAMES)
    if kind != "numpy":
        with pytest.raises(ValueError, match="feature names should match"):
            model.decision_function(frame.rename({"pt": "p"}))


@pytest.mark.parametrize("estimator", THREE, ids=lambda e: type(e).__name__)
def test_pipeline_clone_and_pickle(estimator: Any) -> None:
    frame, y, w = events()
    fitted = clone(estimator).fit(frame, y, w)
    again = pickle.loads(pickle.dumps(fitted))  # noqa: S301
    np.testing.assert_array_equal(again.decision_function(frame), fitted.decision_function(frame))
    pipeline = make_pipeline("passthrough", clone(estimator))
    pipeline.fit(frame, y, **{f"{type(estimator).__name__.lower()}__sample_weight": w})
    np.testing.assert_array_equal(pipeline.decision_function(frame), fitted.decision_function(frame))


def test_parameters_of_members_and_grid_search() -> None:
    frame, y, w = events()
    model = StackingEnsemble([("tree", DecisionTreeClassifier(random_state=0)), ("line", LogisticRegression())], cv=2)
    assert model.get_params()["tree__max_depth"] is None
    assert clone(model).set_params(tree__max_depth=3).get_params()["tree__max_depth"] == 3
    assert isinstance(clone(model).set_params(line=GaussianNB()).estimators[1][1], GaussianNB)
    grid = {"tree__max_depth": [1, 4], "method": ["mean", "nonnegative"]}
    search = GridSearchCV(model, grid, cv=2, scoring="roc_auc").fit(frame, y, sample_weight=w)
    assert set(search.best_params_) == set(grid)
    assert search.best_estimator_.decision_function(frame).shape == (400,)


@pytest.mark.parametrize("estimator", THREE, ids=lambda e: type(e).__name__)
def test_labels_may_be_text_and_jobs_change_nothing(estimator: Any) -> None:
    frame, y, w = events()
    jobs = {"n_jobs": 2} if isinstance(estimator, StackingEnsemble) else {}
    model = clone(estimator).set_params(**jobs).fit(frame, np.where(y, "s", "b"), w)
    assert list(model.classes_) == ["b", "s"]
    assert set(model.predict(frame)) <= {"b", "s"}
    alone = clone(estimator).fit(frame, y, w)
    np.testing.assert_array_equal(model.decision_function(frame), alone.decision_function(frame))


class OneGroup(JetSplitClassifier):
    """All events in one group: scikit-learn's checks bring no group numbers."""

    def _members(self, X: NDArray[Any]) -> NDArray[np.int64]:
        return np.zeros(X.shape[0], dtype=np.int64)


def expected_failures(estimator: Any) -> dict[str, str]:
    why = (
        "training weights have mean 1 over all events, those of weight 0 included; in a stack, an event of weight 2 "
        "is in one fold and one of two copies may be in another, so that other members are trained"
    )
    return {"check_sample_weight_equivalence_on_dense_data": why}


@parametrize_with_checks(
    [PhysicalClassifier(), OneGroup(group_feature=0, groups=((0,),)), StackingEnsemble(cv=2)],
    expected_failed_checks=expected_failures,
)  # type: ignore[untyped-decorator]  # scikit-learn ships no types
@pytest.mark.filterwarnings("default")  # the checks provoke scikit-learn's own warnings
def test_scikit_learn_rules(estimator: Any, check: Any) -> None:
    check(estimator)
