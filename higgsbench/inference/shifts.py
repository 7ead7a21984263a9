"""What systematic shifts of the events do to a selection and to the binned score.

Nominal and shifted scores come from the same model on the same held-out events, before and after a shift; the weights
of shifted events keep the factors that bring the *nominal* events to the reference totals, so that events which a shift
moves out of the selection are lost and not scaled away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.errors import MetricError
from higgsbench.metrics._arrays import checked_labels, checked_scores, checked_weights
from higgsbench.metrics.ams import ams, ams_gradient
from higgsbench.metrics.binning import BinnedSums, bin_sums
from higgsbench.schema import B_REG

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["ShiftRow", "ShiftedScores", "binned", "shift_table"]


@dataclass(frozen=True)
class ShiftedScores:
    """Scored events, nominal or after one shift.

    Attributes:
        name: `nominal`, or name and direction of the shift.
        y: (n,) truth.
        score: (n,) log-odds.
        weight: (n,) weights, scaled by the factors of the nominal events.
        event_id: (n,) event numbers, each once; without them a change has no standard error.
    """

    name: str
    y: NDArray[np.bool_]
    score: NDArray[np.float64]
    weight: NDArray[np.float64]
    event_id: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        y = checked_labels(self.y)
        checked_scores(self.score, y.size)
        checked_weights(self.weight, y.size)


@dataclass(frozen=True)
class ShiftRow:
    """Selection at the frozen cut under one shift.

    Attributes:
        name: name and direction of the shift.
        s: selected signal, b: background.
        ams: AMS.
        s_change: change of s against nominal, relative; b_change: of b.
        ams_change: change of the AMS, absolute.
        ams_change_se: its standard error from the finite number of simulated events, both selections on the same events
            (delta method); NaN where event numbers are not known.
    """

    name: str
    s: float
    b: float
    ams: float
    s_change: float
    b_change: float
    ams_change: float
    ams_change_se: float


def shift_table(
    nominal: ShiftedScores, shifted: Sequence[ShiftedScores], threshold: float, b_reg: float = B_REG
) -> list[ShiftRow]:
    """Tabulate the selection at a frozen cut, nominal first, then under each shift.

    Args:
        nominal: events as they are.
        shifted: events after each shift.
        threshold: frozen cut; events with score >= threshold are selected.
        b_reg: regularisation of the background in the AMS.
    """
    s0, b0 = _selected(nominal, threshold)
    reference = ams(s0, b0, b_reg)
    rows = []
    for events in (nominal, *shifted):
        s, b = _selected(events, threshold)
        value = ams(s, b, b_reg)
        se = _error_of_change(nominal, events, threshold, b_reg)
        rows.append(ShiftRow(events.name, s, b, value, _relative(s, s0), _relative(b, b0), value - reference, se))
    return rows


def _error_of_change(nominal: ShiftedScores, moved: ShiftedScores, threshold: float, b_reg: float) -> float:
    """Standard error of the AMS of moved events minus that of the nominal ones, paired event by event."""
    if nominal.event_id is None or moved.event_id is None:
        return float("nan")
    order = np.argsort(nominal.event_id)
    at = order[np.searchsorted(nominal.event_id, moved.event_id, sorter=order)]
    deviation = -_influence(nominal, nominal, threshold, b_reg)
    deviation[at] += _influence(moved, nominal, threshold, b_reg)
    return float(np.sqrt(np.sum(deviation**2)))


def _influence(events: ShiftedScores, nominal: ShiftedScores, threshold: float, b_reg: float) -> NDArray[np.float64]:
    """What each event contributes to the deviation of the AMS, class totals held at those of the nominal events."""
    selected = _selected(events, threshold)
    keep = events.weight * (events.score >= threshold)
    gradient = ams_gradient(*selected, max(b_reg, 1e-12))
    out = np.zeros(events.y.size)
    for of, whole, total, slope in zip((events.y, ~events.y), (nominal.y, ~nominal.y), selected, gradient, strict=True):
        share = total / float(np.sum(nominal.weight[whole]))
        out += np.where(of, slope * (keep - share * events.weight), 0.0)
    return out


def _selected(events: ShiftedScores, threshold: float) -> tuple[float, float]:
    keep = events.score >= threshold
    s, b = (float(np.sum(events.weight[keep & rows])) for rows in (events.y, ~events.y))
    if s < 0.0 or b < 0.0:
        raise MetricError(f"{events.name}: the selected sums are negative (s = {s:g}, b = {b:g})")
    return s, b


def _relative(value: float, reference: float) -> float:
    return value / reference - 1.0 if reference else float("nan")


def binned(events: ShiftedScores, edges: NDArray[np.float64]) -> BinnedSums:
    """Contents of score bins with the given lower edges, the first -inf."""
    index: NDArray[Any] = np.searchsorted(edges, events.score, side="right") - 1
    return bin_sums(events.y, index.astype(np.int64), events.weight, edges.size)
