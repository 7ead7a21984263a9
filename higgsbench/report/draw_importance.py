"""Figures of what features are worth to a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from higgsbench.leaderboard.columns import printable
from higgsbench.pages.drawing import BACKGROUND, SIGNAL, SOFT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from higgsbench.report.importance import Contributions, Importance

__all__ = ["contribution_figure", "importance_figure"]

_SHOWN = 15
"""Features of the picture of contributions."""

_DPI = 180
"""Of the points, which are drawn as one image: thousands of shapes would be megabytes."""


def importance_figure(found: Sequence[Importance]) -> Figure:
    """Draw the losses of weighted AUC and AMS by shuffled feature, the most important on top."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 1.0 + 0.19 * len(found)), layout="constrained")
    left = figure.add_subplot(1, 2, 1)
    right = figure.add_subplot(1, 2, 2, sharey=left)
    at = np.arange(len(found))
    losses = ((left, [(e.auc, e.auc_se) for e in found]), (right, [(e.ams, e.ams_se) for e in found]))
    for ax, pairs in losses:
        ax.axvline(0.0, color=SOFT, linewidth=0.8)
        ax.errorbar([p[0] for p in pairs], at, xerr=[p[1] for p in pairs], fmt="o", markersize=3.5, color=BACKGROUND,
                    capsize=2)  # fmt: skip
    left.set_yticks(at, [printable(e.feature) for e in found])
    left.set_ylim(len(found) - 0.3, -0.7)
    right.tick_params(axis="y", labelleft=False)
    for ax in (left, right):
        ax.ticklabel_format(axis="x", style="plain", useOffset=False)
        ax.locator_params(axis="x", nbins=5)
    left.set_xlabel("loss of weighted AUC")
    right.set_xlabel("loss of AMS at the frozen cut")
    return figure


def contribution_figure(found: Contributions, order: NDArray[np.intp]) -> Figure:
    """Draw what features add to the log-odds: mean magnitudes as bars, single events as a swarm.

    Args:
        found: the contributions.
        order: (p,) positions of the features, largest mean magnitude first.
    """
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    shown = order[:_SHOWN]
    figure = Figure(figsize=(8.4, 1.0 + 0.27 * shown.size), layout="constrained", dpi=_DPI)
    axes = figure.subplots(1, 2, sharey=True, width_ratios=(1, 2.4))
    bars, swarm = axes[0], axes[1]
    at = np.arange(shown.size)
    bars.barh(at, found.size[shown], height=0.65, color=BACKGROUND, alpha=0.6)
    # No white in the middle: points have to be seen on light and on dark paper.
    colors = LinearSegmentedColormap.from_list("values", [BACKGROUND, SOFT, SIGNAL]).with_extremes(bad=SOFT)
    swarm.axvline(0.0, color=SOFT, linewidth=0.8)
    parts = found.parts[:, shown]
    heights = np.column_stack([place + _offsets(column) for place, column in enumerate(parts.T)])
    shades = np.column_stack([_ranks(found.values[:, feature]) for feature in shown])
    swarm.scatter(parts.ravel(), heights.ravel(), c=shades.ravel(), cmap=colors, vmin=0.0, vmax=1.0, s=3.0,
                  linewidths=0, rasterized=True, plotnonfinite=True)  # fmt: skip
    bars.set_yticks(at, [printable(found.features[i]) for i in shown])
    bars.set_ylim(shown.size - 0.4, -0.6)
    swarm.tick_params(axis="y", labelleft=False)
    bars.set_xlabel("mean magnitude")
    swarm.set_xlabel("added to the log-odds of signal")
    return figure


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) share of the present values below each, equal values alike; NaN where missing."""
    out = np.full(values.size, np.nan)
    present = np.isfinite(values)
    ordered = np.sort(values[present])
    low, high = (np.searchsorted(ordered, values[present], side=side) for side in ("left", "right"))
    out[present] = 0.5 * (low + high) / max(ordered.size, 1)
    return out


def _offsets(parts: NDArray[np.float64], bins: int = 80) -> NDArray[np.float64]:
    """(n,) heights within ±0.4 that spread points of a bin evenly, the more of them the wider."""
    low, high = float(parts.min(initial=0.0)), float(parts.max(initial=0.0))
    if not low < high:
        return np.zeros(parts.size)
    place = np.minimum(((parts - low) / (high - low) * bins).astype(np.int64), bins - 1)
    order = np.argsort(place, kind="stable")
    counts = np.bincount(place, minlength=bins)
    within = np.empty(parts.size, dtype=np.int64)
    within[order] = np.arange(parts.size) - np.repeat(np.cumsum(counts) - counts, counts)
    # Alternately above and below the line, outwards.
    steps = (within + 1) // 2 * np.where(within % 2 == 1, 1, -1)
    return np.asarray(0.8 * steps / counts.max(), dtype=np.float64)
