"""Figures of where selected events lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from higgsbench.pages.drawing import PAPER, SERIES, SIGNAL, SOFT, axis_label, new_figure
from higgsbench.report.numbers import histogram

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from higgsbench.report.events import Feature

__all__ = ["Selected", "edges_of", "selection_figure"]

_COLORS = {"W": SERIES[0], "Z": SERIES[3], "ttbar": SERIES[2], "background": SERIES[0], "signal": SIGNAL}
_HATCH = {"ttbar": "////", "Z": "....", "signal": None}
_NAMES = {"W": "W + jets", "Z": "Z → ττ", "ttbar": "top pairs", "signal": "signal", "background": "background"}
_ORDER = ("ttbar", "Z", "W", "background", "signal")
_ROUND = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


@dataclass(frozen=True)
class Selected:
    """Selected events.

    Attributes:
        process: (n,) process of each event.
        weight: (n,) evaluation weight, zero outside the selection.
    """

    process: NDArray[np.str_]
    weight: NDArray[np.float64]


def edges_of(feature: Feature, weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bin edges: one bin per number where a feature counts, else 25 that hold the selected events up to the last 1%."""
    values = feature.values[(weight > 0.0) & np.isfinite(feature.values)]
    if not values.size:
        return np.array([0.0, 1.0])
    if feature.whole:
        return np.arange(np.min(values) - 0.5, np.max(values) + 1.0)
    low, high = np.quantile(values, [0.005, 0.99])
    return np.linspace(low, high if high > low else low + 1.0, 26)


def selection_figure(feature: Feature, selected: Selected, edges: NDArray[np.float64]) -> Figure:
    """Draw selected events stacked by process, signal on top, and the signal alone once more, enlarged to be seen."""
    figure, ax = new_figure(4.4, 3.1)
    present = np.isfinite(feature.values)
    base = np.zeros(edges.size - 1)
    signal = np.zeros_like(base)
    variance = np.zeros_like(base)
    inside = present & (feature.values >= edges[0]) & (feature.values <= edges[-1])
    for name in [n for n in _ORDER if n in set(selected.process.tolist())]:
        members = inside & (selected.process == name)
        content, squares = histogram(feature.values[members], selected.weight[members], edges)
        ax.stairs(base + content, edges, baseline=base, fill=True, facecolor=_COLORS[name], edgecolor=PAPER,
                  linewidth=0.4, hatch=_HATCH.get(name), label=_NAMES[name])  # fmt: skip
        base = base + content
        variance += squares
        signal = content if name == "signal" else signal
    error = np.sqrt(variance)
    low, high = (np.append(v, v[-1]) for v in (np.maximum(base - error, 0.0), base + error))
    ax.fill_between(edges, low, high, step="post", facecolor="none", hatch="xxxx", edgecolor=SOFT, linewidth=0)
    if signal.max(initial=0.0) > 0.0:
        factor = max((f for f in _ROUND if f * signal.max() <= base.max()), default=1)
        ax.stairs(factor * signal, edges, color=SIGNAL, linewidth=1.6, linestyle="--", label=f"signal × {factor}")
    ax.set_xlim(float(edges[0]), float(edges[-1]))
    ax.set_ylim(0.0, max(1.45 * float(np.max(high)), 1e-9))
    ax.set_xlabel(axis_label(feature.name, feature.unit))
    unit = f" {feature.unit}" if feature.unit else ""
    ax.set_ylabel("expected events" if feature.whole else f"expected events / {edges[1] - edges[0]:.3g}{unit}")
    if feature.whole:
        ax.set_xticks(np.arange(np.ceil(edges[0]), edges[-1]))
    ax.legend(loc="upper right", ncols=3, fontsize=7)
    return figure
