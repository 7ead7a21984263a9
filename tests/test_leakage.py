"""Nothing of the held-out events reaches what scores them, from folds to the stack."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeClassifier

from higgsbench import JetSplitClassifier, PhysicalClassifier
from higgsbench.ensemble import BLEND_METHODS, cross_fitted_blend, cross_fitted_recalibration
from higgsbench.metrics import Estimate, evaluation_weights, roc_auc
from higgsbench.schema import N_B, N_S
from higgsbench.validation import fold_assignments, group_index

TOTALS = (N_S, N_B)
GROUPS = ((0,), (1,), (2, 3))
MAKERS: list[Callable[[], Any]] = [
    lambda: PhysicalClassifier(LogisticRegression()),
    lambda: PhysicalClassifier(DecisionTreeClassifier(min_samples_leaf=20, random_state=0)),
    lambda: JetSplitClassifier(GaussianNB(), group_feature=0),
]


class Events:
    def __init__(self, seed: int, n: int = 1500) -> None:
        rng = np.random.default_rng(seed)
        self.y: NDArray[np.bool_] = rng.random(n) < 0.35
        jets = rng.integers(0, 4, n)
        self.X = np.column_stack([jets, rng.normal(size=(n, 4)) + self.y[:, None] * [1.0, 0.5, 0.0, 0.3]])
        self.w = evaluation_weights(self.y, rng.gamma(3.0, size=n), *TOTALS)
        self.group = group_index(jets, GROUPS)
        self.fold: NDArray[np.int64] = fold_assignments(self.y, self.group, 4, 1, seed)[0]


def out_of_fold(make: Callable[[], Any], events: Events, features: Callable[[int], Any]) -> NDArray[np.float64]:
    out = np.empty(events.y.size)
    for k in range(4):
        held_out, X = events.fold == k, features(k)
        w = evaluation_weights(events.y[~held_out], events.w[~held_out], *TOTALS)
        out[held_out] = make().fit(X[~held_out], events.y[~held_out], w).decision_function(X[held_out])
    return out


def stacked(events: Events, features: Callable[[int], Any], method: str) -> tuple[NDArray[np.float64], Estimate]:
    columns = [out_of_fold(make, events, features) for make in MAKERS]
    columns = [cross_fitted_recalibration(c, events.y, events.w, events.group, events.fold) for c in columns]
    F = np.column_stack(columns)
    names = ("a", "b", "c")
    score, _ = cross_fitted_blend(method, names, F, events.y, events.w, events.fold, TOTALS)
    return F, roc_auc(events.y, score, events.w)


@pytest.mark.parametrize("method", BLEND_METHODS)
def test_shuffled_labels_give_an_auc_of_one_half(method: str) -> None:
    pulls = []
    for seed in range(2):
        events = Events(seed)
        events.X = events.X[np.random.default_rng(seed + 50).permutation(events.y.size)]
        events.group = group_index(events.X[:, 0].astype(np.int64), GROUPS)
        events.fold = fold_assignments(events.y, events.group, 4, 1, seed)[0]
        F, stack = stacked(events, lambda k, X=events.X: X, method)  # type: ignore[misc]
        for estimate in (stack, *(roc_auc(events.y, F[:, i], events.w) for i in range(3))):
            assert abs(estimate.value - 0.5) < 4.0 * estimate.se
        pulls.append((stack.value - 0.5) / stack.se)
    assert abs(np.mean(pulls)) < 2.5


def test_a_feature_that_equals_the_label_in_held_out_rows_only_does_not_help() -> None:
    events = Events(3)
    rng = np.random.default_rng(0)
    noise = rng.random(events.y.size) < 0.5

    def leaky(k: int) -> NDArray[np.float64]:
        return np.column_stack([events.X, np.where(events.fold == k, events.y, noise)])

    _, honest = stacked(events, lambda k: events.X, "nonnegative")
    _, tempted = stacked(events, leaky, "nonnegative")
    assert honest.value > 0.7
    assert tempted.value < honest.value + 2.0 * honest.se

    def everywhere(k: int) -> NDArray[np.float64]:
        return np.column_stack([events.X, events.y])

    assert stacked(events, everywhere, "nonnegative")[1].value > 0.99, "the guard would notice"
