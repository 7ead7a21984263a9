"""The figure of systematic shifts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.leaderboard.columns import printable
from higgsbench.pages.drawing import SOFT, new_figure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure

    from higgsbench.inference.shifts import ShiftRow

__all__ = ["shift_figure"]


def shift_figure(rows: Mapping[str, Sequence[ShiftRow]], looks: Mapping[str, dict[str, Any]]) -> Figure:
    """Draw the change of the AMS under every shift with one standard error, a marker per row.

    Args:
        rows: selections by the row's name, nominal first; the same shifts in all of them.
        looks: colour and marker of each row.
    """
    shifts = [row.name for row in next(iter(rows.values()))[1:]]
    figure, ax = new_figure(8.4, 1.3 + (0.25 + 0.12 * len(rows)) * len(shifts))
    at = np.arange(len(shifts), dtype=np.float64)
    ax.axvline(0.0, color=SOFT, linewidth=0.8)
    for place, (name, found) in enumerate(rows.items()):
        offset = 0.8 * ((place + 0.5) / len(rows) - 0.5)
        look = looks[name]
        face = look["color"] if look["linestyle"] == "-" else "none"
        ax.errorbar([r.ams_change for r in found[1:]], at + offset, xerr=[r.ams_change_se for r in found[1:]],
                    color=look["color"], marker=look["marker"], markerfacecolor=face, linestyle="", markersize=4,
                    capsize=2, label=printable(name))  # fmt: skip
    for edge in at[1:] - 0.5:
        ax.axhline(edge, color=SOFT, alpha=0.3, linewidth=0.6)
    ax.set_yticks(at, [printable(name) for name in shifts])
    ax.set_ylim(len(shifts) - 0.5, -0.5)
    ax.set_xlabel("change of the AMS [standard deviations]")
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=7)
    return figure
