"""The honest numbers of one leaderboard row, computed from stored scores."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from higgsbench.ensemble.bootstrap import Replicas, bootstrap_row
from higgsbench.ensemble.cut import Cut, choose_cut
from higgsbench.ensemble.selection import cross_validated_selection
from higgsbench.ensemble.truth import Truth
from higgsbench.metrics.classification import log_loss, roc_auc
from higgsbench.metrics.scan import ams_scan
from higgsbench.metrics.uncertainty import Estimate, ams_estimate, mean_estimate
from higgsbench.metrics.weights import evaluation_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["METRICS_VERSION", "HeldOut", "RowMetrics", "Truth", "evaluate_held_out", "evaluate_row"]

METRICS_VERSION = 4
"""Raised whenever a definition below changes; rows of different versions are never ranked together."""


@dataclass(frozen=True)
class RowMetrics:
    """Metrics of one row.

    Attributes:
        ams_cv: AMS with each fold's cut chosen on the other folds, pooled; mean over repeats.
        ams_cv_se: its standard error from the event bootstrap, the choice of the cuts included.
        s: selected signal, b: selected background, fraction: selected share of events, all at the cuts of `ams_cv`.
        oof_max: the best cut on the pooled out-of-fold scores themselves (optimistic); mean AMS over repeats.
        oof_max_se: its standard error at fixed cut.
        auc: weighted ROC AUC.
        log_loss: weighted log-loss of the physical log-odds, nats per unit of weight.
        cut: the frozen cut, chosen by the rule on all out-of-fold scores; its threshold is the mean over repeats.
        replicas: bootstrap replicas, for paired differences to other rows on the same events.
    """

    ams_cv: float
    ams_cv_se: float
    s: float
    b: float
    fraction: float
    oof_max: float
    oof_max_se: float
    auc: Estimate
    log_loss: Estimate
    cut: Cut
    replicas: Replicas

    def without_events(self) -> RowMetrics:
        """Return the metrics without what each event contributes, 16 bytes for each event and row of a run."""
        return replace(self, auc=self.auc.without_events(), log_loss=self.log_loss.without_events())


@dataclass(frozen=True)
class HeldOut:
    """AMS of the frozen cut on held-out labelled events."""

    ams: float
    se: float
    s: float
    b: float
    auc: float


def evaluate_row(scores: NDArray[np.float64], truth: Truth) -> RowMetrics:
    """Compute the metrics of a row.

    Args:
        scores: (repeats, n) out-of-fold log-odds in physical normalisation.
        truth: labels, weights, folds and rules.

    Returns:
        The metrics, averaged over repeats.
    """
    selections = np.stack([cross_validated_selection(score, truth, r) for r, score in enumerate(scores)])
    values, sums, fractions, maxima, cuts, aucs, losses = [], [], [], [], [], [], []
    for score, selected in zip(scores, selections, strict=True):
        estimate, s, b = ams_estimate(truth.y, selected, truth.weight, truth.b_reg)
        curve = ams_scan(truth.y, score, truth.weight, truth.b_reg)
        values.append(estimate.value)
        sums.append((s, b))
        fractions.append(float(selected.mean()))
        maxima.append(choose_cut(curve, "max"))
        cuts.append(choose_cut(curve, truth.rule))
        aucs.append(roc_auc(truth.y, score, truth.weight))
        losses.append(log_loss(truth.y, score, truth.weight))
        del curve, estimate  # ten arrays of the events' length, which the bootstrap need not find in memory
    replicas = bootstrap_row(scores, truth)
    return RowMetrics(
        ams_cv=float(np.mean(values)),
        ams_cv_se=float(np.std(replicas.ams_cv, ddof=1)),
        s=float(np.mean([s for s, _ in sums])),
        b=float(np.mean([b for _, b in sums])),
        fraction=float(np.mean(fractions)),
        oof_max=float(np.mean([c.ams for c in maxima])),
        oof_max_se=float(np.mean([c.se for c in maxima])),
        auc=mean_estimate(aucs),
        log_loss=mean_estimate(losses),
        cut=_mean_cut(cuts),
        replicas=replicas,
    )


def _mean_cut(cuts: list[Cut]) -> Cut:
    names = ("threshold", "fraction", "ams", "se", "s", "b")
    return Cut(rule=cuts[0].rule, **{name: float(np.mean([getattr(c, name) for c in cuts])) for name in names})


def evaluate_held_out(
    y: NDArray[np.bool_],
    weight: NDArray[np.float64],
    score: NDArray[np.float64],
    threshold: float,
    totals: tuple[float, float],
    b_reg: float,
) -> HeldOut:
    """Apply the frozen cut to held-out events whose weights are rescaled to the reference totals.

    Args:
        y: (n,) truth.
        weight: (n,) weights as stored.
        score: (n,) scores.
        threshold: the frozen cut.
        totals: reference totals (N_s, N_b).
        b_reg: regularisation of the background.
    """
    w = evaluation_weights(y, weight, *totals)
    estimate, s, b = ams_estimate(y, score >= threshold, w, b_reg)
    return HeldOut(estimate.value, estimate.se, s, b, roc_auc(y, score, w).value)
