"""The compact forest against the library's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier

from higgsbench.errors import StoreError
from higgsbench.models.compact_forest import CompactForestClassifier, _rounded_down

SETTINGS: dict[str, Any] = {"n_estimators": 12, "min_samples_leaf": 3, "max_samples": 0.5, "random_state": 3}


@pytest.fixture(scope="module")
def events() -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float64]]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 5)).astype(np.float32)
    y = (X[:, 0] + X[:, 1] * X[:, 2] + 0.5 * rng.normal(size=600) > 0.0).astype(np.int64)
    X[rng.random(X.shape) < 0.1] = np.nan
    return X, y, rng.gamma(2.0, size=600)


@pytest.fixture(scope="module")
def fitted(events: tuple[Any, Any, Any]) -> CompactForestClassifier:
    return CompactForestClassifier(**SETTINGS).fit(*events)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"n_jobs": 2},
        {"max_leaf_nodes": 20},
        {"ccp_alpha": 0.005},
        {"bootstrap": False, "max_samples": None},
        {"class_weight": "balanced"},
        {"criterion": "entropy", "max_depth": 3},
    ],
)
def test_probabilities_are_those_of_the_library(events: tuple[Any, Any, Any], more: dict[str, Any]) -> None:
    X, y, w = events
    own = CompactForestClassifier(**SETTINGS | more).fit(X, y, w)
    library = RandomForestClassifier(**SETTINGS | more).fit(X, y, w)
    np.testing.assert_allclose(own.predict_proba(X), library.predict_proba(X), atol=1e-7)
    np.testing.assert_array_equal(own.apply(X), library.apply(X))


def test_trees_grown_later_are_the_library_s_too(events: tuple[Any, Any, Any]) -> None:
    X, y, w = events
    own = CompactForestClassifier(**SETTINGS | {"n_estimators": 5, "warm_start": True}).fit(X, y, w)
    own.set_params(n_estimators=12).fit(X, y, w)
    np.testing.assert_allclose(
        own.predict_proba(X), RandomForestClassifier(**SETTINGS).fit(X, y, w).predict_proba(X), atol=1e-7
    )


def test_nothing_of_the_full_trees_is_kept(fitted: CompactForestClassifier) -> None:
    nodes = sum(tree.tree_.node_count for tree in fitted.estimators_)
    arrays, _ = fitted.state()
    assert sum(values.nbytes for values in arrays.values()) == 15 * nodes + 16 * len(fitted.estimators_)
    for tree in fitted.estimators_:
        assert "_growing" not in vars(tree)
        assert tree.tree_ is not tree.tree_


def test_rounding_moves_no_value_to_the_other_side() -> None:
    rng = np.random.default_rng(1)
    values = np.sort(rng.normal(size=2000).astype(np.float32))
    close = np.nextafter(values, np.float32(np.inf))
    thresholds = np.concatenate([(values.astype(np.float64) + close) / 2.0, values, [np.inf, -np.inf, 0.0]])
    rounded = _rounded_down(thresholds)
    for x in (values, close):
        np.testing.assert_array_equal(x[:, None] <= thresholds[None, ::50], x[:, None] <= rounded[None, ::50])
    np.testing.assert_array_equal(rounded[:2000], values)


def test_state_comes_back(fitted: CompactForestClassifier, events: tuple[Any, Any, Any]) -> None:
    back = CompactForestClassifier.from_state(*fitted.state())
    assert (back.decision_path(events[0])[0] != fitted.decision_path(events[0])[0]).nnz == 0
    np.testing.assert_array_equal(back.predict_proba(events[0]), fitted.predict_proba(events[0]))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("left", lambda a: np.where(a >= 0, 0, a).astype(a.dtype)),
        ("right", lambda a: (a + 10_000).astype(a.dtype)),
        ("feature", lambda a: (a + 100).astype(a.dtype)),
        ("number", lambda a: a.astype(np.float64)),
        ("number", lambda a: a[:-1]),
        ("count", lambda a: a - 1),
        ("count", lambda a: a[:0]),
        ("count", lambda a: np.where(np.arange(a.size) == 0, -1, a)),
        ("count", lambda a: a.astype(np.float64)),
        ("count", lambda a: np.array(a.sum())),
        ("feature", lambda a: np.full(a.shape, np.nan)),
        ("depth", lambda a: a[:-1]),
        ("depth", lambda a: a * 0),
        ("depth", lambda a: a + 2**61),
        ("depth", lambda a: -a),
        ("right", lambda a: np.where(np.arange(a.size) == 0, 1, a).astype(a.dtype)),
    ],
)
def test_damaged_states_are_refused(fitted: CompactForestClassifier, name: str, change: Any) -> None:
    arrays, parameters = fitted.state()
    with pytest.raises(StoreError, match="its forest"):
        CompactForestClassifier.from_state({**arrays, name: change(arrays[name])}, parameters)


@pytest.mark.parametrize("features", [0, -1, 40_000, 1])
def test_states_of_other_features_are_refused(fitted: CompactForestClassifier, features: int) -> None:
    with pytest.raises(StoreError, match="its forest"):
        CompactForestClassifier.from_state(fitted.state()[0], {"features": features})


def test_what_it_cannot_do_is_said(fitted: CompactForestClassifier, events: tuple[Any, Any, Any]) -> None:
    X, y, _ = events
    with pytest.raises(AttributeError, match="permutation_importance"):
        _ = fitted.feature_importances_
    with pytest.raises(AttributeError, match="permutation_importance"):
        _ = fitted.estimators_[0].feature_importances_
    with pytest.raises(ValueError, match="Only binary classification"):
        CompactForestClassifier(n_estimators=2).fit(X, np.arange(600) % 3)
    with pytest.raises(ValueError, match="Only binary classification"):
        CompactForestClassifier(n_estimators=2).fit(X, np.column_stack([y, y]))
    with pytest.raises(AttributeError, match="not fitted"):
        _ = CompactForestClassifier().fit(X, y).estimators_[0].__class__().tree_
