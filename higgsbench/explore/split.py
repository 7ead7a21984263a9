"""Why splits must rescale weights, worked out on the events at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from higgsbench.explore.result import SplitCase, SplitStudy
from higgsbench.metrics import ams, ams_gradient
from higgsbench.schema import B_REG

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["split_study"]


def _best_cut(folds: NDArray[np.float64], scales: tuple[float, float]) -> tuple[int, bool] | None:
    """Find the bin boundary with the highest AMS: events in bins >= at (above) or < at pass; missing never pass."""
    content = folds[:, :, :-1, 1].sum(axis=0)
    b, s = scales[0] * content[0], scales[1] * content[1]
    best: tuple[float, int, bool] | None = None
    # An even bin boundary stands just before the open bin: cut at an edge value, never inside one.
    for above in (True, False):
        s_in = np.cumsum(s[::-1])[::-1] if above else np.cumsum(s) - s
        b_in = np.cumsum(b[::-1])[::-1] if above else np.cumsum(b) - b
        candidates = np.arange(1, s.size, 2)
        if not candidates.size:
            continue
        usable = candidates[(s_in[candidates] >= 0.0) & (b_in[candidates] >= 0.0)]
        if not usable.size:
            continue
        values = np.asarray(ams(s_in[usable], b_in[usable]))
        top = int(np.argmax(values))
        if best is None or values[top] > best[0]:
            best = (float(values[top]), int(usable[top]), above)
    return None if best is None else best[1:]


def _selected(bins: NDArray[np.float64], at: int, above: bool) -> NDArray[np.float64]:
    part = bins[:, at:-1] if above else bins[:, :at]
    total: NDArray[np.float64] = part.sum(axis=1)
    return total


def _case(
    name: str,
    fraction: float,
    selection: str,
    chosen: NDArray[np.float64],
    every: NDArray[np.float64],
    scales: tuple[float, float],
    rescaled: bool,
) -> SplitCase:
    """AMS with its error; with rescaling the class totals are fixed, without it they fluctuate like the selection."""
    b, s = (float(scales[c] * chosen[c, 1]) for c in (0, 1))
    variance = []
    for c in (0, 1):
        share = chosen[c, 1] / every[c, 1] if rescaled else 0.0
        spread = (1.0 - 2.0 * share) * chosen[c, 2] + share**2 * every[c, 2]
        variance.append(max(float(scales[c] ** 2 * spread), 0.0))
    by_s, by_b = ams_gradient(s, b)
    se = float(np.sqrt(by_s[0] ** 2 * variance[1] + by_b[0] ** 2 * variance[0]))
    return SplitCase(name, fraction, rescaled, selection, s, b, ams(s, b, B_REG), se)


def split_study(
    folds: NDArray[np.float64], edges: NDArray[np.float64], feature: str, totals: tuple[float, float]
) -> SplitStudy | None:
    """Select everything, and by the best cut on one feature, in growing random parts of the events.

    Args:
        folds: (folds, 2, bins, 3) bins of the feature in random equal parts; class 0 is background.
        edges: fine edges of the feature.
        feature: its name.
        totals: (N_s, N_b).

    Returns:
        The study, or None where a part lacks a class.
    """
    if (folds[:, :, :, 1].sum(axis=2) <= 0.0).any():
        return None
    whole = folds.sum(axis=0).sum(axis=1)
    full_scales = (totals[1] / float(whole[0, 1]), totals[0] / float(whole[1, 1]))
    found = _best_cut(folds, full_scales)
    if found is None:
        return None
    at, above = found
    cut = float(edges[at // 2])
    sign = "≥" if above else "<"
    selections = {"all events": None, f"{feature} {sign} {cut:.6g}": (at, above)}
    cases = []
    for parts in range(1, len(folds) + 1):
        bins = folds[:parts].sum(axis=0)
        every = bins.sum(axis=1)
        scales = (totals[1] / float(every[0, 1]), totals[0] / float(every[1, 1]))
        fraction = parts / len(folds)
        for selection, limits in selections.items():
            chosen = every if limits is None else _selected(bins, *limits)
            if (chosen[:, 1] < 0.0).any():
                return None
            for rescaled in (False, True):
                used = scales if rescaled else full_scales
                name = f"{fraction:.0%} of the events"
                cases.append(_case(name, fraction, selection, chosen, every, used, rescaled))
    return SplitStudy(feature, cut, above, tuple(cases))
