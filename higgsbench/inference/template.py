"""From a model's scores to the bins of a workspace: counting at the cut, or shape."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from higgsbench.inference.shifts import ShiftedScores, binned
from higgsbench.inference.workspace import Template
from higgsbench.metrics.binning import BinningRules, bin_sums, optimal_edges

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from higgsbench.compare.load import Contender
    from higgsbench.inference.significance import ModelSignificance

__all__ = ["cross_validated_template", "held_out_template"]


def cross_validated_template(model: ModelSignificance, contender: Contender, *, counting: bool) -> Template:
    """Template of a model's own out-of-fold scores: its honest cut as one bin, or its honest bins.

    Args:
        model: the model's significance.
        contender: its scores.
        counting: whether only the selected events enter, as one bin.
    """
    if not counting:
        return Template(model.bins)
    keep = model.selected
    zeros = np.zeros(int(keep.sum()), dtype=np.int64)
    return Template(bin_sums(contender.truth.y[keep], zeros, contender.truth.weight[keep], 1))


def held_out_template(
    contender: Contender,
    nominal: ShiftedScores,
    shifts: Mapping[str, tuple[ShiftedScores, ShiftedScores]],
    rules: BinningRules,
    *,
    counting: bool,
) -> Template:
    """Template of held-out events, nominal and shifted; cut and bins come from the run's out-of-fold scores.

    Args:
        contender: the model's out-of-fold scores.
        nominal: held-out events as they are.
        shifts: the same events under shifts.
        rules: what a bin must hold, on the out-of-fold scores.
        counting: whether only events above the frozen cut enter, as one bin.
    """
    truth = contender.truth
    if counting:
        edges = np.array([-np.inf, float(contender.row.record["threshold"])])
    else:
        edges = optimal_edges(truth.y, contender.scores[0], truth.weight, rules)[-1]

    def sums(events: ShiftedScores, edges: NDArray[np.float64] = edges) -> Template:
        found = binned(events, edges)
        return Template(type(found)(*(v[1:] for v in vars(found).values()))) if counting else Template(found)

    sides = {name: (sums(up).nominal, sums(down).nominal) for name, (up, down) in shifts.items()}
    return Template(sums(nominal).nominal, sides)
