"""Cell resampling: training weights without negative values, with the same sum in every neighbourhood of events.

Andersen and Maier, "Unbiased elimination of negative weights in Monte Carlo samples", Eur. Phys. J. C 82 (2022) 433;
Andersen, Guetschow, Maier and Prestel, Eur. Phys. J. C 80 (2020) 1007.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NEAR = (16, 512)
"""Neighbours in the first search, and in the second if these are not enough; the third uses all events."""
_TOGETHER = 1 << 21
"""Neighbours that are held in memory at a time."""


def resampled(
    X: NDArray[Any], y: NDArray[np.bool_], weight: NDArray[np.float64], process: NDArray[np.int64] | None = None
) -> NDArray[np.float64]:
    """Share negative weights among neighbouring events until no weight is negative.

    A cell starts with an event of negative weight, the most negative first. The nearest events of the same class and
    process join it until the sum of its weights is not negative. Each weight w in it becomes |w|, scaled to that sum.
    Distances are Euclidean over features scaled to unit variance; missing values count as the median, and a flag for
    missing values is a feature too. A process with a negative sum shares with the other processes of its class.

    Args:
        X: (n, p) features, NaN where missing.
        y: (n,) truth.
        weight: (n,) weights; each class has a positive sum.
        process: (n,) number of each event's process; None where it is unknown.

    Returns:
        (n,) weights that are not negative; the sums of each cell and each class are unchanged.
    """
    from sklearn.pipeline import make_pipeline

    from higgsbench.models.parts import BlockwiseScaler, FlaggedMedians

    points = make_pipeline(FlaggedMedians(), BlockwiseScaler()).fit_transform(X)
    out = weight.copy()
    processes = [] if process is None else [process == number for number in np.unique(process)]
    for members in (*(y & own for own in processes), *(~y & own for own in processes), y, ~y):
        rows = np.flatnonzero(members)
        if (out[rows] < 0.0).any() and out[rows].sum() >= 0.0:
            out[rows] = _shared(points[rows], out[rows])
    return out


def _shared(points: NDArray[Any], w: NDArray[np.float64]) -> NDArray[np.float64]:
    """Resample weights w (n,), whose sum is not negative, at points (n, q)."""
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors().fit(points)
    for size in sorted({min(size, w.size) for size in (*_NEAR, w.size)}):
        waiting = np.flatnonzero(w < 0.0)
        waiting = waiting[np.argsort(w[waiting], kind="stable")]
        for seed, near in _neighbours(search, points, waiting, size, w):
            cell = np.append(seed, near[near != seed])  # another event may be at the same point
            total = np.cumsum(w[cell])
            enough = total >= 0.0
            if size < w.size and not enough.any():
                continue
            last = int(np.argmax(enough)) if enough.any() else w.size - 1  # the sum of all is negative only by rounding
            cell = cell[: last + 1]
            size_of = np.abs(w[cell])
            w[cell] = size_of * (max(total[last], 0.0) / size_of.sum())
    return w


def _neighbours(
    search: Any, points: NDArray[Any], waiting: NDArray[np.int64], size: int, w: NDArray[np.float64]
) -> Iterator[tuple[np.int64, NDArray[np.int64]]]:
    """Yield seeds that are still negative, with their `size` nearest events."""
    step = max(1, _TOGETHER // size)
    for first in range(0, waiting.size, step):
        part = waiting[first : first + step]
        part = part[w[part] < 0.0]
        if part.size:
            for seed, near in zip(part, search.kneighbors(points[part], size, return_distance=False), strict=True):
                if w[seed] < 0.0:
                    yield seed, near
