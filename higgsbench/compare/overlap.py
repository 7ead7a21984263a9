"""What two models select: together, one without the other; and how alike their scores are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import rankdata

from higgsbench.metrics.ams import ams

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from higgsbench.compare.load import Contender
    from higgsbench.compare.measure import Measured

__all__ = ["Overlap", "Part", "overlap_of"]


@dataclass(frozen=True)
class Part:
    """A part of the events.

    Attributes:
        events: number of simulated events.
        s: expected signal in it.
        b: expected background in it.
        ams: AMS of the part alone.
    """

    events: int
    s: float
    b: float
    ams: float


@dataclass(frozen=True)
class Overlap:
    """What two models select at their own honest cuts (first repeat), and how alike they score.

    Attributes:
        only_a: selected by the first alone, only_b: by the second alone.
        both: selected by both, either: by at least one.
        rank_correlation: weighted correlation of the two orders within signal and within background.
    """

    only_a: Part
    only_b: Part
    both: Part
    either: Part
    rank_correlation: dict[str, float]


def overlap_of(a: Contender, b: Contender, a_measured: Measured, b_measured: Measured) -> Overlap:
    """Compare what two models on the same events select.

    Args:
        a: the first model.
        b: the second.
        a_measured: what was measured of the first.
        b_measured: what was measured of the second.
    """
    mine, theirs = a_measured.selected[0], b_measured.selected[0]
    y, w = a.truth.y, a.truth.weight
    correlation = {
        name: _correlation(rankdata(a.scores[0][rows]), rankdata(b.scores[0][rows]), w[rows])
        for name, rows in (("signal", y), ("background", ~y))
    }
    return Overlap(
        only_a=_part(a, mine & ~theirs),
        only_b=_part(a, theirs & ~mine),
        both=_part(a, mine & theirs),
        either=_part(a, mine | theirs),
        rank_correlation=correlation,
    )


def _part(contender: Contender, keep: NDArray[np.bool_]) -> Part:
    y, w = contender.truth.y, contender.truth.weight
    s, b = (float(np.sum(w[keep & rows])) for rows in (y, ~y))
    return Part(int(keep.sum()), s, b, ams(max(s, 0.0), max(b, 0.0), contender.truth.b_reg))


def _correlation(x: NDArray[np.float64], y: NDArray[np.float64], w: NDArray[np.float64]) -> float:
    """Weighted correlation; NaN where one of the two does not vary."""
    if not np.sum(w) > 0.0:
        return float("nan")
    x, y = x - np.average(x, weights=w), y - np.average(y, weights=w)
    spread = float(np.average(x * x, weights=w)) * float(np.average(y * y, weights=w))
    return float(np.average(x * y, weights=w) / np.sqrt(spread)) if spread > 0.0 else float("nan")
