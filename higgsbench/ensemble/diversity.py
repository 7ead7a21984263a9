"""What each member gives to a blend: its weight, its likeness to the others, the loss when it is left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from higgsbench.ensemble.blend import cross_fitted_blend
from higgsbench.metrics.classification import log_loss, roc_auc
from higgsbench.metrics.uncertainty import mean_estimate, paired_difference
from higgsbench.metrics.weights import evaluation_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from higgsbench.ensemble.blend import Blend
    from higgsbench.metrics.uncertainty import Estimate

__all__ = ["Diversity", "MemberGain", "blend_diversity", "score_correlation"]


@dataclass(frozen=True)
class MemberGain:
    """One member of a blend.

    Attributes:
        name: its row.
        weight: mean coefficient over folds and repeats; weight_sd: standard deviation of these coefficients.
        auc: weighted ROC AUC of the member alone.
        nearest: the member it is most like, and nearest_correlation: their correlation.
        auc_gain: AUC of the blend less that of the blend refitted without the member, and its paired error.
        log_loss_gain: log-loss of the blend without the member less that of the blend, and its paired error; in both
            a positive number says that the member helps.
    """

    name: str
    weight: float
    weight_sd: float
    auc: float
    nearest: str
    nearest_correlation: float
    auc_gain: float
    auc_gain_se: float
    log_loss_gain: float
    log_loss_gain_se: float


@dataclass(frozen=True)
class Diversity:
    """A blend seen member by member.

    Attributes:
        method: of the blend.
        members: one record per member.
        correlation: (m, m) correlations of the members' log-odds, see `score_correlation`.
        auc: weighted ROC AUC of the blend.
    """

    method: str
    members: tuple[MemberGain, ...]
    correlation: NDArray[np.float64]
    auc: float


def score_correlation(F: NDArray[np.float64], y: NDArray[np.bool_], w: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weighted Pearson correlations (m, m) of log-odds F (n, m) within the classes.

    Every useful score tells signal from background; that alone would make all of them alike. So the class means are
    taken off first, and both classes count the same.
    """
    weight = evaluation_weights(y, w, 0.5, 0.5)
    centred = np.empty_like(F, dtype=np.float64)
    for members in (y, ~y):
        centred[members] = F[members] - np.average(F[members], axis=0, weights=weight[members])
    covariance = (centred * weight[:, None]).T @ centred
    spread = np.sqrt(np.maximum(np.diag(covariance), np.finfo(np.float64).tiny))
    correlation: NDArray[np.float64] = covariance / np.outer(spread, spread)
    return correlation


def blend_diversity(
    method: str,
    names: Sequence[str],
    scores: NDArray[np.float64],
    y: NDArray[np.bool_],
    w: NDArray[np.float64],
    fold: NDArray[np.int64],
    totals: tuple[float, float],
) -> Diversity:
    """Take a blend apart.

    Args:
        method: one of `BLEND_METHODS`.
        names: labels of the m members, at least two.
        scores: (repeats, n, m) out-of-fold log-odds.
        y: (n,) truth.
        w: (n,) evaluation weights.
        fold: (repeats, n) fold numbers.
        totals: reference totals (N_s, N_b).

    Returns:
        The members in the order given.
    """
    full, blends = _blend(method, names, scores, y, w, fold, totals)
    coefficients = np.stack([blend.coefficients for blend in blends])
    correlation = np.mean([score_correlation(F, y, w) for F in scores], axis=0)
    auc, loss = _metrics(full, y, w)
    members = []
    for i, name in enumerate(names):
        kept = [j for j in range(len(names)) if j != i]
        without, _ = _blend(method, [names[j] for j in kept], scores[:, :, kept], y, w, fold, totals)
        auc_without, loss_without = _metrics(without, y, w)
        nearest = max(kept, key=lambda j: correlation[i, j])
        auc_gain, loss_gain = paired_difference(auc, auc_without), paired_difference(loss_without, loss)
        members.append(
            MemberGain(
                name=name,
                weight=float(coefficients[:, i].mean()),
                weight_sd=float(coefficients[:, i].std()),
                auc=mean_estimate([roc_auc(y, F[:, i], w) for F in scores]).value,
                nearest=names[nearest],
                nearest_correlation=float(correlation[i, nearest]),
                auc_gain=auc_gain[0],
                auc_gain_se=auc_gain[1],
                log_loss_gain=loss_gain[0],
                log_loss_gain_se=loss_gain[1],
            )
        )
    return Diversity(method, tuple(members), correlation, auc.value)


def _blend(
    method: str,
    names: Sequence[str],
    scores: NDArray[np.float64],
    y: NDArray[np.bool_],
    w: NDArray[np.float64],
    fold: NDArray[np.int64],
    totals: tuple[float, float],
) -> tuple[list[NDArray[np.float64]], list[Blend]]:
    out, blends = [], []
    for repeat, F in enumerate(scores):
        blended, found = cross_fitted_blend(method, tuple(names), F, y, w, fold[repeat], totals)
        out.append(blended)
        blends += found
    return out, blends


def _metrics(
    scores: list[NDArray[np.float64]], y: NDArray[np.bool_], w: NDArray[np.float64]
) -> tuple[Estimate, Estimate]:
    aucs, losses = [roc_auc(y, s, w) for s in scores], [log_loss(y, s, w) for s in scores]
    return mean_estimate(aucs), mean_estimate(losses)
