"""A bag of LightGBM bins its events once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import clone

from higgsbench.errors import ModelError
from higgsbench.models import BuildContext, get_model
from higgsbench.models.building import build_estimator

PARAMS: dict[str, Any] = {
    "n_estimators": 100, "num_leaves": 6, "colsample_bytree": 0.6, "subsample": 0.7, "subsample_freq": 1,
    "early_stopping_rounds": 5, "validation_fraction": 0.2, "bag": 3,
}  # fmt: skip


def events(step: float = 0.0, n: int = 1500) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float64]]:
    """Columns of few values, so that any part of the events gives the same bins; of many with a small step."""
    rng = np.random.default_rng(0)
    X = rng.integers(0, 12, size=(n, 6)) + step * rng.normal(size=(n, 6))
    X[rng.random((n, 6)) < 0.1] = np.nan
    filled = np.nan_to_num(X, nan=6.0)
    y = filled[:, 0] + filled[:, 1] + 4.0 * rng.normal(size=n) > 11.0
    return X.astype(np.float32), y.astype(np.int64), rng.gamma(3.0, size=n)


def bag(**more: Any) -> Any:
    return build_estimator(get_model("lightgbm"), {**PARAMS, **more}, BuildContext(seed=4))


@pytest.fixture
def binned(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many events are binned, each time."""
    import lightgbm

    sizes: list[int] = []
    construct = lightgbm.Dataset.construct

    def counted(self: Any) -> Any:
        if self._handle is None and self.used_indices is None and self.reference is None:
            sizes.append(len(self.label))
        return construct(self)

    monkeypatch.setattr(lightgbm.Dataset, "construct", counted)
    return sizes


def test_the_events_are_binned_once_to_the_same_bits(binned: list[int]) -> None:
    X, y, w = events(0.3)
    first, again = bag().fit(X, y, w), bag().fit(X, y, w)
    assert binned == [1500, 1500]
    np.testing.assert_array_equal(first.decision_function(X), again.decision_function(X))


# LightGBM 4.6 names columns of arrays itself and then misses the names in the next array.
@pytest.mark.filterwarnings("ignore:X does not have valid feature names:UserWarning")
@pytest.mark.parametrize("more", [{}, {"min_child_weight": 2.0, "reg_lambda": 1.0, "max_bin": 63}])
def test_trees_are_those_of_members_by_themselves_where_the_bins_are_the_same(more: dict[str, Any]) -> None:
    X, y, w = events()
    together = bag(**more).fit(X, y, w)
    alone = [clone(member).fit(X, y, w) for member in together.estimators]
    best = [member.estimator_.booster_.best_iteration for member in alone]
    assert len(set(best)) > 1
    for one, other in zip(together.estimators_, alone, strict=True):
        np.testing.assert_array_equal(one.estimator_.booster_.predict(X), other.estimator_.booster_.predict(X))
        np.testing.assert_allclose(one.predict_proba(X), other.predict_proba(X))


@pytest.mark.parametrize(
    "more", [{"class_weight": "balanced"}, {"objective": "cross_entropy"}, {"linear_tree": True}, {"bag": 2}]
)
def test_what_only_the_wrapper_can_do_it_does(more: dict[str, Any], binned: list[int]) -> None:
    X, y, w = events(0.3)
    fitted = bag(**more).fit(X, y, w)
    assert len(binned) == (1 if "bag" in more else 3)
    assert np.isfinite(fitted.decision_function(X)).all()


def test_a_member_alone_trains_as_ever(binned: list[int]) -> None:
    member = bag(bag=1).fit(*events(0.3))
    assert type(member.estimator_).__name__ == "LGBMClassifier"
    assert binned == [1200]


def test_too_few_events_to_put_some_aside_are_named() -> None:
    with pytest.raises(ModelError, match=r"validation_fraction: 0\.2 of 40 events"):
        bag().fit(events(0.3, 40)[0], np.eye(40, dtype=np.int64)[0])
