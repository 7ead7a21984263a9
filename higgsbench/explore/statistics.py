"""Statistics from bins and sums: quantiles, AUC, histograms, distances, correlations and the rescaling study.

The bins are those of `counts.Tally`: even numbers are open bins between two edges, odd ones hold a single value.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from higgsbench.explore.result import Correlations, Histogram, Pair, SplitCase, SplitStudy
from higgsbench.metrics import ams, ams_gradient
from higgsbench.schema import B_REG

if TYPE_CHECKING:
    from collections.abc import Sequence

    from higgsbench.explore.counts import Floats

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class BinnedAUC(NamedTuple):
    """An AUC, its standard error, and the largest error binning can have caused."""

    value: float
    se: float
    binning: float


def binned_auc(background: Floats, signal: Floats) -> BinnedAUC | None:
    """Weighted AUC from ordered bins, events in one bin counting as ties.

    Pairs in one bin count one half where the exact value is 0 or 1, hence an error of at most half the product of the
    two shares, summed over the bins; bins that hold one value only (odd numbers, and missing) are exact.

    Args:
        background: (bins, 3) events, weights, squared weights, in ascending order of the feature; even numbers are
            open bins. The bound holds for weights that are not negative.
        signal: the same of the signal.

    Returns:
        The AUC, or None if a class has no positive weight.
    """
    total_b, total_s = float(background[:, 1].sum()), float(signal[:, 1].sum())
    if not (total_b > 0.0 and total_s > 0.0):
        return None
    b, s = background[:, 1] / total_b, signal[:, 1] / total_s
    below = np.cumsum(b) - 0.5 * b
    above = s.sum() - np.cumsum(s) + 0.5 * s
    value = float(np.sum(s * below))
    variance = float(np.sum(signal[:, 2] * (below - value) ** 2)) / total_s**2
    variance += float(np.sum(background[:, 2] * (above - value) ** 2)) / total_b**2
    inexact = np.abs(s * b)
    inexact[1::2] = 0.0
    return BinnedAUC(value, float(np.sqrt(variance)), 0.5 * float(np.sum(inexact)))


def quantiles(weights: Floats, edges: Floats, low: float, high: float) -> tuple[float, ...]:
    """Weighted quantiles of present values, linear inside a fine bin.

    Args:
        weights: (2 E + 1,) weight in each bin.
        edges: (E,) fine edges.
        low: smallest value.
        high: largest value.
    """
    total = float(weights.sum())
    if not total > 0.0:
        return tuple(float("nan") for _ in QUANTILES)
    cumulative = np.maximum.accumulate(np.cumsum(weights))
    out = []
    for level in QUANTILES:
        at = int(np.searchsorted(cumulative, level * total))
        at = min(at, weights.size - 1)
        if at % 2:
            out.append(float(edges[at // 2]))
            continue
        left = low if at == 0 else max(low, float(edges[at // 2 - 1]))
        right = high if at == weights.size - 1 else min(high, float(edges[at // 2]))
        before = cumulative[at - 1] if at else 0.0
        inside = cumulative[at] - before
        part = (level * total - before) / inside if inside > 0.0 else 0.5
        out.append(left + float(part) * (right - left))
    return tuple(out)


def histogram(bins: Floats, fine: Floats, display: Floats, scale: float) -> Histogram:
    """Sum fine bins to the displayed ones, [low, high) each, the last one closed; exact, as the edges are shared."""
    start = 2 * np.searchsorted(fine, display) + 1
    start[-1] += 1  # the last bin includes its upper edge
    values, variances = [], []
    for first, last in itertools.pairwise(start.tolist()):
        values.append(scale * float(bins[first:last, 1].sum()))
        variances.append(scale**2 * float(bins[first:last, 2].sum()))
    below = scale * float(bins[: start[0], 1].sum())
    above = scale * float(bins[start[-1] : -1, 1].sum())
    return Histogram(tuple(values), tuple(variances), below, above)


def ks_distance(first: Floats, second: Floats) -> tuple[float, float] | None:
    """Kolmogorov-Smirnov distance of two sets of bin contents, and the largest error binning can have caused."""
    total, other = float(first.sum()), float(second.sum())
    if not (total > 0.0 and other > 0.0):
        return None
    f, g = first / total, second / other
    distance = float(np.max(np.abs(np.cumsum(f) - np.cumsum(g))))
    # Inside an open bin the two curves can separate by at most the larger of the two shares in it.
    error = float(np.max(np.maximum(np.abs(f), np.abs(g))[0::2], initial=0.0))
    return distance, error


_FEWEST = 30  # common events of a pair that may be listed


def correlation_matrix(sums: Floats, centre: Floats) -> Floats:
    """(p, p) weighted Pearson correlations; NaN where a feature does not vary or no event has both.

    Args:
        sums: (6, p, p) sums over pairs, see `counts.pair_sums`.
        centre: (p,) numbers that were subtracted from the values.
    """
    _, w, _, x, xx, xy = sums
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = x / w
        variance = xx / w - mean**2
        # The remainder of a constant is rounding, not variance.
        variance[~(variance > 1e-12 * (xx / w + (centre**2)[:, None]))] = np.nan
        r = (xy / w - mean * mean.T) / np.sqrt(variance * variance.T)
    # Matrix products may round the two halves differently.
    symmetric: Floats = np.where(np.tri(*r.shape, dtype=np.bool_), r, r.T)
    return np.clip(symmetric, -1.0, 1.0)


def correlations(label: str, sums: Floats, centre: Floats, names: Sequence[str], strongest: int = 10) -> Correlations:
    """Return the matrix and its strongest pairs; the standard error is (1 - r^2) / sqrt(effective events).

    Pairs with fewer than 30 common events are left out of the list of the strongest.
    """
    r, (n, w, w2) = correlation_matrix(sums, centre), sums[:3]
    first, second = np.triu_indices(len(names), 1)
    usable = np.isfinite(r[first, second]) & (n[first, second] >= _FEWEST)
    first, second = first[usable], second[usable]
    order = np.argsort(-np.abs(r[first, second]), kind="stable")[:strongest]
    pairs = []
    for i, j in zip(first[order].tolist(), second[order].tolist(), strict=True):
        value, effective = float(r[i, j]), float(w[i, j] ** 2 / w2[i, j])
        pairs.append(Pair(names[i], names[j], value, (1.0 - value**2) / effective**0.5, int(n[i, j])))
    return Correlations(label, tuple(tuple(row) for row in r.tolist()), tuple(pairs))


def _best_cut(folds: Floats, scales: tuple[float, float]) -> tuple[int, bool] | None:
    """Find the bin boundary with the highest AMS: events in bins >= at (above) or < at pass; missing never pass."""
    content = folds[:, :, :-1, 1].sum(axis=0)
    b, s = scales[0] * content[0], scales[1] * content[1]
    best: tuple[float, int, bool] | None = None
    candidates = np.arange(1, s.size, 2)  # cut at the value of an edge, never inside an open bin
    for above in (True, False):
        s_in = np.cumsum(s[::-1])[::-1] if above else np.cumsum(s) - s
        b_in = np.cumsum(b[::-1])[::-1] if above else np.cumsum(b) - b
        usable = candidates[(s_in[candidates] >= 0.0) & (b_in[candidates] >= 0.0)]
        if not usable.size:
            continue
        values = np.asarray(ams(s_in[usable], b_in[usable]))
        top = int(np.argmax(values))
        if best is None or values[top] > best[0]:
            best = (float(values[top]), int(usable[top]), above)
    return None if best is None else best[1:]


def _selected(bins: Floats, at: int, above: bool) -> Floats:
    part = bins[:, at:-1] if above else bins[:, :at]
    total: Floats = part.sum(axis=1)
    return total


def _case(
    name: str,
    fraction: float,
    selection: str,
    chosen: Floats,
    every: Floats,
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


def split_study(folds: Floats, edges: Floats, feature: str, totals: tuple[float, float]) -> SplitStudy | None:
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
