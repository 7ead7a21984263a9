"""Expected significance of one stored model: at its honest cut, with background uncertainties, and by shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from higgsbench.ensemble.cut import cross_validated_selection
from higgsbench.ensemble.evaluate import REPLICAS
from higgsbench.errors import MetricError
from higgsbench.metrics.ams import ams
from higgsbench.metrics.estimates import poisson_counts
from higgsbench.metrics.significance import (
    BinnedSums,
    BinningRules,
    asimov_significance,
    bin_sums,
    combined_significance,
    optimal_edges,
)
from higgsbench.metrics.weights import evaluation_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from higgsbench.compare.measure import Contender
    from higgsbench.ensemble.cut import Truth

__all__ = ["ModelSignificance", "Value", "honest_bins", "model_significance"]

_SEED = 20140912


@dataclass(frozen=True)
class Value:
    """A number and its standard error from the finite number of simulated events."""

    value: float
    se: float


@dataclass(frozen=True)
class ModelSignificance:
    """Expected discovery significances of a model, first repeat.

    Attributes:
        name: the model.
        s: selected signal at the honest cut, b: background, fraction: selected share of events.
        ams: regularised AMS.
        z: Asimov significance without regularisation and uncertainty.
        z_sigma: Asimov significance by relative background uncertainty.
        shape: significance of the binned score, without and with each relative uncertainty (0 first).
        bins: content of the bins of the score.
        bin_index: (n,) bin of each event, edges chosen on the other folds.
        selected: (n,) the honest selection.
    """

    name: str
    s: Value
    b: Value
    fraction: float
    ams: Value
    z: Value
    z_sigma: dict[float, Value]
    shape: dict[float, Value]
    bins: BinnedSums
    bin_index: NDArray[np.int64]
    selected: NDArray[np.bool_]


def honest_bins(score: NDArray[np.float64], truth: Truth, rules: BinningRules) -> tuple[NDArray[np.int64], int]:
    """Bin events of each fold by edges chosen on the other folds' scores.

    All folds get the same number of bins, the largest that the rules allow in each; bin i of all folds is pooled.

    Args:
        score: (n,) out-of-fold scores of one repeat.
        truth: labels, weights, folds; the folds of its first repeat are used.
        rules: what a bin must hold.

    Returns:
        (n,) bin of each event, background-like first, and the number of bins.

    Raises:
        MetricError: if the events of some folds do not fill one bin.
    """
    fold = truth.fold[0]
    per_fold = []
    for k in range(int(fold.max()) + 1):
        rest = fold != k
        weight = evaluation_weights(truth.y[rest], truth.weight[rest], *truth.totals)
        per_fold.append(optimal_edges(truth.y[rest], score[rest], weight, rules))
    bins = min(len(edges) for edges in per_fold)
    index = np.zeros(score.size, dtype=np.int64)
    for k, edges in enumerate(per_fold):
        held_out = fold == k
        index[held_out] = np.searchsorted(edges[bins - 1], score[held_out], side="right") - 1
    return index, bins


def model_significance(
    contender: Contender, sigma_b: Sequence[float] = (), rules: BinningRules | None = None, replicas: int = REPLICAS
) -> ModelSignificance:
    """Compute the expected significances of a model from its out-of-fold scores of the first repeat.

    Errors come from an event bootstrap at fixed cut and bins.

    Args:
        contender: the model.
        sigma_b: relative background uncertainties.
        rules: binning of the shape; its `sigma_b` is what the bins are optimised for.
        replicas: number of bootstrap replicas.

    Raises:
        MetricError: for a negative uncertainty, or events that do not fill one bin.
    """
    truth, score = contender.truth, contender.scores[0]
    for value in sigma_b:
        if not 0.0 <= value < np.inf:
            raise MetricError(f"a relative background uncertainty must be finite and not negative, got {value}")
    selected = cross_validated_selection(score, truth, 0)
    index, bins = honest_bins(score, truth, rules or BinningRules())
    # Cells: bins of the shape, unselected and selected.
    cell = index * 2 + selected
    central = _cell_sums(truth, cell, 2 * bins, np.ones((1, truth.y.size)))
    rng = np.random.default_rng(_SEED)
    parts = [
        _cell_sums(truth, cell, 2 * bins, poisson_counts(rng, (min(50, replicas - lo), truth.y.size)))
        for lo in range(0, replicas, 50)
    ]
    spread = np.concatenate(parts)
    found, scatter = (_quantities(sums, truth, sigma_b) for sums in (central, spread))
    values = {key: Value(float(found[key][0]), float(np.std(scatter[key], ddof=1))) for key in found}
    return ModelSignificance(
        name=contender.name,
        s=values["s"],
        b=values["b"],
        fraction=float(selected.mean()),
        ams=values["ams"],
        z=values["z"],
        z_sigma={sigma: values[f"z {sigma}"] for sigma in sigma_b},
        shape={sigma: values[f"shape {sigma}"] for sigma in dict.fromkeys((0.0, *sigma_b))},
        bins=bin_sums(truth.y, index, truth.weight, bins),
        bin_index=index,
        selected=selected,
    )


def _cell_sums(
    truth: Truth, cell: NDArray[np.int64], cells: int, counts: NDArray[np.float64] | NDArray[np.uint8]
) -> NDArray[np.float64]:
    """(replicas, class, cell) sums of weights, classes rescaled to the totals."""
    place = truth.y * cells + cell
    sums = np.array([np.bincount(place, truth.weight * c, 2 * cells) for c in counts]).reshape(-1, 2, cells)
    wanted = np.array([[truth.totals[1]], [truth.totals[0]]])
    scaled: NDArray[np.float64] = np.maximum(sums * (wanted / sums.sum(axis=2, keepdims=True)), 0.0)
    return scaled


def _quantities(sums: NDArray[np.float64], truth: Truth, sigma_b: Sequence[float]) -> dict[str, NDArray[np.float64]]:
    """All numbers of each replica from sums (replicas, class, bin x unselected or selected)."""
    b, s = (sums[:, c, 1::2].sum(axis=1) for c in (0, 1))
    bin_b, bin_s = (sums[:, c, 0::2] + sums[:, c, 1::2] for c in (0, 1))
    out = {"s": s, "b": b, "ams": np.atleast_1d(ams(s, b, truth.b_reg)), "z": asimov_significance(s, b)}
    for sigma in dict.fromkeys((0.0, *sigma_b)):
        out[f"z {sigma}"] = asimov_significance(s, b, sigma, relative=True)
        out[f"shape {sigma}"] = np.array(
            [combined_significance(i, j, sigma, relative=True) for i, j in zip(bin_s, bin_b, strict=True)]
        )
    return out
