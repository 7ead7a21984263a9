"""Nothing of the held-out events reaches what scores them, from folds to the stack, by any blend."""

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
from higgsbench.ensemble.blend import BLEND_METHODS, cross_fitted_blend, cross_fitted_recalibration
from higgsbench.metrics import evaluation_weights, roc_auc
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


def out_of_fold(make: Callable[[], Any], events: Events) -> NDArray[np.float64]:
    out = np.empty(events.y.size)
    for k in range(4):
        held_out = events.fold == k
        X, y = events.X[~held_out], events.y[~held_out]
        w = evaluation_weights(y, events.w[~held_out], *TOTALS)
        out[held_out] = make().fit(X, y, w).decision_function(events.X[held_out])
    return out


@pytest.mark.parametrize("method", BLEND_METHODS)
def test_shuffled_labels_give_an_auc_of_one_half(method: str) -> None:
    pulls = []
    for seed in range(2):
        events = Events(seed)
        events.X = events.X[np.random.default_rng(seed + 50).permutation(events.y.size)]
        events.group = group_index(events.X[:, 0].astype(np.int64), GROUPS)
        events.fold = fold_assignments(events.y, events.group, 4, 1, seed)[0]
        y, w, fold = events.y, events.w, events.fold
        columns = [out_of_fold(make, events) for make in MAKERS]
        F = np.column_stack([cross_fitted_recalibration(c, y, w, events.group, fold)[0] for c in columns])
        stack, _ = cross_fitted_blend(method, ("a", "b", "c"), F, y, w, fold, TOTALS)
        found = [roc_auc(y, score, w) for score in (stack, *F.T)]
        for estimate in found:
            assert abs(estimate.value - 0.5) < 4.0 * estimate.se
        pulls.append((found[0].value - 0.5) / found[0].se)
    assert abs(np.mean(pulls)) < 2.5
