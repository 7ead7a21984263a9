"""Weighted correlations over the events in which both features are present."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from higgsbench.explore.result import Correlations, Pair

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from higgsbench.explore.tally import PairSums

__all__ = ["correlation_matrix", "correlations"]

_FEWEST = 30


def correlation_matrix(sums: PairSums) -> NDArray[np.float64]:
    """(p, p) weighted Pearson correlations; NaN where a feature does not vary or no event has both."""
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = sums.x / sums.w
        variance = sums.xx / sums.w - mean**2
        # What is left of a constant is rounding, not variance.
        variance[~(variance > 1e-12 * (sums.xx / sums.w + (sums.centre**2)[:, None]))] = np.nan
        r = (sums.xy / sums.w - mean * mean.T) / np.sqrt(variance * variance.T)
    # Matrix products may round the two halves differently.
    return np.clip(np.where(np.tri(*r.shape, dtype=np.bool_), r, r.T), -1.0, 1.0)


def correlations(label: str, sums: PairSums, names: Sequence[str], strongest: int = 10) -> Correlations:
    """Return the matrix and its strongest pairs; the standard error is (1 - r^2) / sqrt(effective events).

    Pairs with fewer than 30 common events are left out of the list of the strongest.
    """
    r = correlation_matrix(sums)
    first, second = np.triu_indices(len(names), 1)
    usable = np.isfinite(r[first, second]) & (sums.n[first, second] >= _FEWEST)
    first, second = first[usable], second[usable]
    order = np.argsort(-np.abs(r[first, second]), kind="stable")[:strongest]
    pairs = []
    for i, j in zip(first[order].tolist(), second[order].tolist(), strict=True):
        value, effective = float(r[i, j]), float(sums.w[i, j] ** 2 / sums.w2[i, j])
        se = (1.0 - value**2) / effective**0.5
        pairs.append(Pair(names[i], names[j], value, se, int(sums.n[i, j])))
    matrix = tuple(tuple(float(v) for v in row) for row in r)
    return Correlations(label, matrix, tuple(pairs))
