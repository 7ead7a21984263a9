"""Average ranks with groups of rows that cannot be told apart, and the diagram that shows them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from higgsbench.compare.measure import difference_between, holm, indistinct_groups
from higgsbench.metrics.estimates import METRICS
from higgsbench.pages.drawing import BACKGROUND, SIGNAL, SOFT, WIDTH, name_axis, new_figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from higgsbench.ensemble import RowMetrics
    from higgsbench.metrics.weights import Floats

ALPHA = 0.05
"""Two models are called different when the adjusted p-value is below this."""


@dataclass(frozen=True)
class RankPicture:
    """What a critical-difference diagram draws.

    Attributes:
        metric: what was ranked.
        names: models, best average rank first.
        ranks: (m,) average rank over bootstrap replicas, 1 is best.
        groups: positions in `names` of pairwise indistinguishable neighbours; groups may overlap.
        alpha: level of the adjusted tests.
    """

    metric: str
    names: tuple[str, ...]
    ranks: Floats
    groups: tuple[tuple[int, ...], ...]
    alpha: float


def rank_pictures(models: Sequence[RowMetrics]) -> dict[str, RankPicture]:
    """Rank measured models by each metric that is resampled.

    J. Demsar, Journal of Machine Learning Research 7 (2006) 1, section 3.2; ties share their rank.
    """
    from scipy.stats import rankdata

    index = list(combinations(range(len(models)), 2))
    out = {}
    for metric in (metric for metric in METRICS.values() if metric.headline and metric.resampled):
        values = np.column_stack([m.replicas.values[metric.key] for m in models])
        ranks = np.mean(rankdata(values if metric.lower_is_better else -values, axis=1), axis=0)
        order = np.argsort(ranks, kind="stable")
        ordered = [models[int(i)] for i in order]
        adjusted = holm([difference_between(ordered[i], ordered[j], metric.name).p_value for i, j in index])
        apart = np.zeros((len(models), len(models)), dtype=np.bool_)
        for (i, j), p in zip(index, adjusted, strict=True):
            apart[i, j] = apart[j, i] = p < ALPHA
        names = tuple(model.name for model in ordered)
        out[metric.name] = RankPicture(metric.name, names, ranks[order], indistinct_groups(apart), ALPHA)
    return out


def rank_figure(found: RankPicture) -> Figure:
    """Draw the critical-difference diagram of Demsar (J. Mach. Learn. Res. 7 (2006) 1), names one below the other."""
    figure, ax = new_figure(WIDTH, 1.0 + 0.26 * len(found.names))
    at = np.arange(len(found.names))
    ax.hlines(at, 1.0, found.ranks, color=SOFT, linewidth=0.8)
    ax.plot(found.ranks, at, "o", color=BACKGROUND, markersize=4.5)
    for step, group in enumerate(found.groups, start=1):
        x = (1.0 + 0.05 * step) * max(found.ranks)
        ax.plot([x, x], [min(group) - 0.2, max(group) + 0.2], color=SIGNAL, linewidth=3, solid_capstyle="butt")
    name_axis(ax, found.names)
    ax.set_xlabel("average rank (1: best); a bar joins models that cannot be distinguished")
    return figure
