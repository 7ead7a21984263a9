"""The honest selection: each fold is cut where the other folds say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from higgsbench.ensemble.cut import choose_cut
from higgsbench.metrics.scan import ams_scan
from higgsbench.metrics.weights import evaluation_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from higgsbench.ensemble.truth import Truth

__all__ = ["cross_validated_selection"]


def cross_validated_selection(score: NDArray[np.float64], truth: Truth, repeat: int) -> NDArray[np.bool_]:
    """Select events of each fold by a cut that was chosen on the other folds' scores; shape (n,)."""
    fold = truth.fold[repeat]
    selected = np.zeros(score.size, dtype=np.bool_)
    for k in range(int(fold.max()) + 1):
        held_out = fold == k
        rest = ~held_out
        weight = evaluation_weights(truth.y[rest], truth.weight[rest], *truth.totals)
        curve = ams_scan(truth.y[rest], score[rest], weight, truth.b_reg)
        threshold = choose_cut(curve, truth.rule).threshold
        selected[held_out] = score[held_out] >= threshold
    return selected
