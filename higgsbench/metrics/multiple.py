"""Many comparisons at once: adjusted p-values, average ranks and groups that cannot be told apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from higgsbench.errors import MetricError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["average_ranks", "holm", "indistinct_groups"]


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Adjust p-values of m tests so that any false positive among them has the stated probability.

    S. Holm, Scandinavian Journal of Statistics 6 (1979) 65: the i-th smallest times m - i + 1, made monotone.

    Args:
        p_values: (m,) p-values; NaN (no test possible) stays NaN and does not count as a test.

    Returns:
        (m,) adjusted p-values, at most 1.

    Raises:
        MetricError: if a value is outside 0 to 1.
    """
    p = np.asarray(p_values, dtype=np.float64)
    known = ~np.isnan(p)
    if p.ndim != 1 or ((p[known] < 0.0) | (p[known] > 1.0)).any():
        raise MetricError("p-values must be a list of numbers between 0 and 1")
    out = np.full(p.shape, np.nan)
    kept = p[known]
    order = np.argsort(kept, kind="stable")
    raised = np.maximum.accumulate(kept[order] * np.arange(kept.size, 0, -1))
    adjusted = np.empty_like(kept)
    adjusted[order] = np.minimum(raised, 1.0)
    out[known] = adjusted
    return out


def average_ranks(values: ArrayLike) -> NDArray[np.float64]:
    """Average rank of each column over rows (folds, or replicas); rank 1 is the highest value, ties share.

    J. Demsar, Journal of Machine Learning Research 7 (2006) 1, section 3.2.

    Args:
        values: (rows, m) values, higher is better.

    Returns:
        (m,) average ranks between 1 and m.

    Raises:
        MetricError: if the array is not two-dimensional, is empty or holds NaN.
    """
    from scipy.stats import rankdata

    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or table.size == 0 or np.isnan(table).any():
        raise MetricError("average ranks need a non-empty table of numbers, one row per fold or replica")
    ranks: NDArray[np.float64] = np.mean(rankdata(-table, axis=1), axis=0)
    return ranks


def indistinct_groups(ranks: ArrayLike, apart: NDArray[np.bool_]) -> tuple[tuple[int, ...], ...]:
    """Runs of neighbours in rank of which no two can be told apart: the bars of a critical-difference picture.

    Args:
        ranks: (m,) average ranks.
        apart: (m, m) whether two can be told apart.

    Returns:
        Maximal groups of at least two columns, each in rank order, best group first. Groups may overlap: being
        indistinct is not transitive.
    """
    order = np.argsort(np.asarray(ranks, dtype=np.float64), kind="stable")
    groups: list[tuple[int, ...]] = []
    reached = 0
    for first in range(order.size):
        last = first
        while last + 1 < order.size and not apart[order[last + 1], order[first : last + 1]].any():
            last += 1
        if last > first and last + 1 > reached:
            groups.append(tuple(int(i) for i in order[first : last + 1]))
            reached = last + 1
    return tuple(groups)
