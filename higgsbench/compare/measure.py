"""The numbers of one model and what each event contributes to their errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from higgsbench.ensemble.bootstrap import bootstrap_rows
from higgsbench.ensemble.selection import cross_validated_selection
from higgsbench.metrics.ams import ams
from higgsbench.metrics.classification import log_loss, roc_auc
from higgsbench.metrics.uncertainty import Estimate, ams_estimate, mean_estimate
from higgsbench.metrics.weights import evaluation_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from higgsbench.compare.load import Contender
    from higgsbench.ensemble.bootstrap import Replicas

__all__ = ["FRACTIONS", "METRICS", "Measured", "Metric", "fold_values", "measure", "selected_share"]

FRACTIONS = (0.05, 0.10, 0.15, 0.20)
"""Shares of the events at which selections of equal size are compared."""


@dataclass(frozen=True)
class Metric:
    """How a metric is named and shown.

    Attributes:
        title: for people.
        digits: decimals shown.
        scale: factor before it is shown.
        lower_is_better: whether a lower value is better.
    """

    title: str
    digits: int
    scale: float = 1.0
    lower_is_better: bool = False


METRICS: dict[str, Metric] = {
    "ams": Metric("AMS", 3),
    **{f"ams_{round(100 * f)}": Metric(f"AMS at {round(100 * f)}%", 3) for f in FRACTIONS},
    "auc": Metric("wAUC", 4),
    "log_loss": Metric("log-loss x10³", 3, 1e3, True),
}
"""All metrics of a comparison; `ams` is at each model's own honest cut."""


@dataclass(frozen=True)
class Measured:
    """A model's numbers.

    Attributes:
        name: its name.
        values: metrics by name, mean over repeats.
        errors: their standard errors.
        influence: (n,) what each event contributes to the deviation of each metric, the cut of `ams` held.
        replicas: (replicas,) bootstrap replicas of `ams` and `auc`, the choice of the cut included.
        draws: the same replicas, for the error of a difference.
        s: selected signal at the honest cut, b: background, mean over repeats.
        selected: (repeats, n) the honest selection.
    """

    name: str
    values: dict[str, float]
    errors: dict[str, float]
    influence: dict[str, NDArray[np.float64]]
    replicas: dict[str, NDArray[np.float64]]
    draws: Replicas
    s: float
    b: float
    selected: NDArray[np.bool_]


def selected_share(score: NDArray[np.float64], share: float) -> NDArray[np.bool_]:
    """Select the events of the highest scores, about a share of all; never inside tied scores."""
    last = score.size - max(1, round(share * score.size))
    selected: NDArray[np.bool_] = score >= np.partition(score, last)[last]
    return selected


def measure(contenders: Sequence[Contender], replicas: int) -> list[Measured]:
    """Measure all contenders; their bootstrap replicas are of the same draws, hence paired.

    Args:
        contenders: models on the same events.
        replicas: number of bootstrap replicas.
    """
    found = [_estimates(contender) for contender in contenders]
    resampled = bootstrap_rows([(c.scores, c.truth) for c in contenders], replicas)
    out = []
    for contender, (estimates, s, b, selected), draws in zip(contenders, found, resampled, strict=True):
        out.append(
            Measured(
                name=contender.name,
                values={m: e.value for m, e in estimates.items()},
                errors={m: e.se for m, e in estimates.items()} | {"ams": float(np.std(draws.ams_cv, ddof=1))},
                influence={m: e.influence for m, e in estimates.items()},
                replicas={"ams": draws.ams_cv, "auc": draws.auc},
                draws=draws,
                s=s,
                b=b,
                selected=selected,
            )
        )
    return out


def _estimates(contender: Contender) -> tuple[dict[str, Estimate], float, float, NDArray[np.bool_]]:
    truth = contender.truth
    selections = [cross_validated_selection(score, truth, r) for r, score in enumerate(contender.scores)]
    at_cut = [ams_estimate(truth.y, keep, truth.weight, truth.b_reg) for keep in selections]
    out = {"ams": mean_estimate([e for e, _, _ in at_cut])}
    for share in FRACTIONS:
        estimates = [
            ams_estimate(truth.y, selected_share(score, share), truth.weight, truth.b_reg)[0]
            for score in contender.scores
        ]
        out[f"ams_{round(100 * share)}"] = mean_estimate(estimates)
    out["auc"] = mean_estimate([roc_auc(truth.y, score, truth.weight) for score in contender.scores])
    out["log_loss"] = mean_estimate([log_loss(truth.y, score, truth.weight) for score in contender.scores])
    s, b = (float(np.mean([entry[i] for entry in at_cut])) for i in (1, 2))
    return out, s, b, np.stack(selections)


def fold_values(contender: Contender) -> dict[str, NDArray[np.float64]]:
    """Metrics of every test fold of every repeat, each at the reference totals; (repeats x folds,) by name.

    Folds that lack a class are NaN.
    """
    truth = contender.truth
    out: dict[str, list[float]] = {name: [] for name in ("ams", "auc", "log_loss")}
    for repeat, score in enumerate(contender.scores):
        selected = cross_validated_selection(score, truth, repeat)
        for k in range(int(truth.fold.max()) + 1):
            rows = truth.fold[repeat] == k
            y = truth.y[rows]
            if not (y.any() and (~y).any()):
                for values in out.values():
                    values.append(np.nan)
                continue
            weight = evaluation_weights(y, truth.weight[rows], *truth.totals)
            keep = selected[rows]
            s, b = (max(float(np.sum(weight[keep & part])), 0.0) for part in (y, ~y))
            out["ams"].append(ams(s, b, truth.b_reg))
            out["auc"].append(roc_auc(y, score[rows], weight).value)
            out["log_loss"].append(log_loss(y, score[rows], weight).value)
    return {name: np.array(values) for name, values in out.items()}
