"""Scores of many events in blocks of fixed size.

A run scores its held-out events and `predict` scores new ones in the same blocks, counted from the first event: matrix
products round differently with the number of rows, so only equal blocks give equal bits. It also bounds the memory of
models that widen the features (pairwise products).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["BLOCK", "block_scores", "mean_log_odds", "with_group"]

BLOCK = 1 << 14
"""Events per block; part of what determines scores to the last bit."""


def with_group(X: NDArray[np.float32], numbers: NDArray[np.int64] | None) -> NDArray[np.float32]:
    """Append the group number as the last column, where the model is split by it."""
    return X if numbers is None else np.column_stack([X, numbers.astype(np.float32)])


def block_scores(estimator: Any, X: NDArray[np.float32], numbers: NDArray[np.int64] | None) -> NDArray[np.float64]:
    """Return the log-odds (n,) of events, block by block.

    Args:
        estimator: a fitted meta-estimator.
        X: (n, p) features, perhaps mapped from a file.
        numbers: (n,) group numbers where the model is split by them, otherwise None.
    """
    scores = np.empty(X.shape[0])
    for first in range(0, X.shape[0], BLOCK):
        rows = slice(first, first + BLOCK)
        part = None if numbers is None else np.asarray(numbers[rows])
        scores[rows] = estimator.decision_function(with_group(np.asarray(X[rows]), part))
    return scores


def mean_log_odds(scores: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the mean (n,) of the fold models' scores, added in order so that every event rounds alike."""
    total = scores[0].copy()
    for more in scores[1:]:
        total += more
    total /= len(scores)
    return total
