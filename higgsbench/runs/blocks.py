"""Scores of many events in blocks of fixed size.

A run scores its held-out events and `predict` scores new ones in the same blocks, counted from the first event: matrix
products round differently with the number of rows, so only equal blocks give equal bits. It also bounds the memory of
models that widen the features (pairwise products).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.models.out_of_core import release

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["BLOCK", "block_scores", "chosen_rows", "mean_log_odds", "with_group"]

BLOCK = 1 << 14
"""Events per block; part of what determines scores to the last bit."""
_RELEASE = 16
"""Blocks after which mapped pages are let go."""


def with_group(X: NDArray[np.float32], numbers: NDArray[np.int64] | None) -> NDArray[np.float32]:
    """Append the group number as the last column, where the model is split by it."""
    return X if numbers is None else np.column_stack([X, numbers.astype(np.float32)])


def chosen_rows(
    X: NDArray[np.float32], rows: NDArray[np.int64], numbers: NDArray[np.int64] | None
) -> NDArray[np.float32]:
    """Copy some rows of a matrix, with the group number as the last column where the model is split by it.

    Args:
        X: (n, p) features, perhaps mapped from a file, whose pages are then handed back to the system.
        rows: (k,) positions of the rows.
        numbers: (n,) group numbers, or None.

    Returns:
        (k, p) or (k, p + 1) rows, the only copy that is made.
    """
    p = X.shape[1]
    out = np.empty((rows.size, p + (numbers is not None)), dtype=np.float32)
    for first in range(0, rows.size, BLOCK):
        block = rows[first : first + BLOCK]
        out[first : first + BLOCK, :p] = X[block]
        if numbers is not None:
            out[first : first + BLOCK, p] = numbers[block]
        if first // BLOCK % _RELEASE == 0:
            release(X)
    release(X)
    return out


def block_scores(
    estimator: Any,
    X: NDArray[np.float32],
    numbers: NDArray[np.int64] | None,
    chosen: NDArray[np.int64] | None = None,
) -> NDArray[np.float64]:
    """Return the log-odds of events, block by block.

    Args:
        estimator: a fitted meta-estimator.
        X: (n, p) features, perhaps mapped from a file.
        numbers: (n,) group numbers where the model is split by them, otherwise None.
        chosen: (k,) positions of the events to score, None for all.

    Returns:
        (k,) or (n,) scores.
    """
    size = X.shape[0] if chosen is None else chosen.size
    scores = np.empty(size)
    for first in range(0, size, BLOCK):
        at = slice(first, first + BLOCK)
        rows = at if chosen is None else chosen[at]
        part = None if numbers is None else np.asarray(numbers[rows])
        scores[at] = estimator.decision_function(with_group(np.asarray(X[rows]), part))
        if first // BLOCK % _RELEASE == 0:
            release(X)
    release(X)
    return scores


def mean_log_odds(scores: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the mean (n,) of the fold models' scores, added in order so that every event rounds alike."""
    total = scores[0].copy()
    for more in scores[1:]:
        total += more
    total /= len(scores)
    return total
