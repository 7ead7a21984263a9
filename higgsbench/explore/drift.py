"""Whether two samples come from one distribution, feature by feature."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from higgsbench.explore.distributions import ks_distance
from higgsbench.explore.result import DriftRow
from higgsbench.metrics.agreement import ks_p_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from higgsbench.explore.tally import Tally

__all__ = ["drift_rows"]

_ALPHA = 0.001


def _expected(
    bins: NDArray[np.float64], totals: NDArray[np.float64], references: tuple[float, float]
) -> tuple[NDArray[np.float64], float] | None:
    """Bin contents of the expected mixture of both classes, and the effective number of present events."""
    background, signal = float(totals[0, 1]), float(totals[1, 1])
    if not (background > 0.0 and signal > 0.0):
        return None
    scales = (references[1] / background, references[0] / signal)
    content = sum((s * bins[c, :-1, 1] for c, s in enumerate(scales)), np.zeros(bins.shape[1] - 1))
    squares = sum(float(s**2 * bins[c, :-1, 2].sum()) for c, s in enumerate(scales))
    return content, (float(content.sum()) ** 2 / squares if squares > 0.0 else 0.0)


def drift_rows(
    tally: Tally, names: Sequence[str], samples: Sequence[str], references: tuple[float, float] | None, weighted: bool
) -> list[DriftRow]:
    """Compare the described events (sample 0) with every other sample.

    Args:
        tally: the counts.
        names: features.
        samples: names of samples 1, 2, ...
        references: (N_s, N_b), or None without labels.
        weighted: whether the file has weights that make a weighted distance another number.
    """
    rows = []
    for k, sample in enumerate(samples, start=1):
        for place, name in enumerate(names):
            rows.append(_row(tally, place, name, k, sample, references if weighted else None))
    return rows


def _row(tally: Tally, place: int, name: str, k: int, sample: str, references: tuple[float, float] | None) -> DriftRow:
    ours, theirs = tally.bins[place][0], tally.bins[place][k]
    counts, others = ours[:, :, 0].sum(axis=0), theirs[:, :, 0].sum(axis=0)
    n, m = float(counts[:-1].sum()), float(others[:-1].sum())
    found = ks_distance(counts[:-1], others[:-1])
    ks, binning = found if found else (None, 0.0)
    p = None if ks is None else ks_p_value(ks, n, m)
    weighted = weighted_p = None
    if references is not None:
        a = _expected(ours, tally.totals[0], references)
        b = _expected(theirs, tally.totals[k], references)
        both = ks_distance(a[0], b[0]) if a and b else None
        if a and b and both and min(a[1], b[1]) > 0.0:
            weighted, weighted_p = both[0], ks_p_value(both[0], a[1], b[1])
    missing, other = 1.0 - n / counts.sum(), 1.0 - m / others.sum()
    pooled = (counts[-1] + others[-1]) / (counts.sum() + others.sum())
    spread = math.sqrt(max(pooled * (1.0 - pooled), 0.0) * (1.0 / counts.sum() + 1.0 / others.sum()))
    z = float((missing - other) / spread) if spread > 0.0 else 0.0
    limit = _ALPHA / len(tally.bins)
    beyond = any(v is not None and v < limit for v in (p, weighted_p, math.erfc(abs(z) / math.sqrt(2.0))))
    return DriftRow(sample, name, ks, p, weighted, weighted_p, binning, float(missing), float(other), z, beyond)
