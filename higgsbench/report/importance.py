"""What a model loses when a feature is shuffled, and what features add to its log-odds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from higgsbench.metrics.ams import ams
from higgsbench.metrics.classification import roc_auc

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl
    from numpy.typing import NDArray

    from higgsbench.report.fitted import Scorer

__all__ = ["Contributions", "Importance", "Judge", "permutation_importance"]


@dataclass(frozen=True)
class Judge:
    """What scores are judged by.

    Attributes:
        y: (n,) truth.
        weight: (n,) evaluation weights at the reference totals.
        threshold: the row's frozen cut.
        b_reg: regularisation of the background in the AMS.
    """

    y: NDArray[np.bool_]
    weight: NDArray[np.float64]
    threshold: float
    b_reg: float

    def __call__(self, score: NDArray[np.float64]) -> tuple[float, float]:
        """Return weighted AUC and AMS at the frozen cut of scores (n,)."""
        selected = self.weight * (score >= self.threshold)
        s, b = (max(float(np.sum(selected[part])), 0.0) for part in (self.y, ~self.y))
        return roc_auc(self.y, score, self.weight).value, ams(s, b, self.b_reg)


@dataclass(frozen=True)
class Importance:
    """Loss when one feature is shuffled; near zero or below, the feature does not matter to this model.

    Attributes:
        feature: the column.
        auc: mean loss of weighted AUC over shuffles.
        auc_se: standard error of that mean from the shuffles; that the events are few is not in it.
        ams: mean loss of AMS at the frozen cut.
        ams_se: its standard error, likewise.
    """

    feature: str
    auc: float
    auc_se: float
    ams: float
    ams_se: float


def permutation_importance(
    scorer: Scorer, frame: pl.DataFrame, judge: Judge, features: Sequence[str], *, shuffles: int = 3, seed: int = 0
) -> tuple[Importance, ...]:
    """Shuffle one feature at a time and score again (Breiman, Machine Learning 45 (2001) 5, with weights).

    Only events that the model has not seen tell what a feature is worth. Features that say the same stand in for each
    other, so that all of them can look unimportant.

    Args:
        scorer: the model.
        frame: (n,) events that it has not seen.
        judge: what their scores are judged by.
        features: columns to shuffle.
        shuffles: how often each is shuffled, at least twice.
        seed: seed of the shuffles.

    Returns:
        One entry per feature, by falling loss of weighted AUC.
    """
    rng = np.random.default_rng(seed)
    whole = np.array(judge(scorer.scores(frame)))
    found = []
    for feature in features:
        orders = [rng.permutation(frame.height) for _ in range(shuffles)]
        shuffled = (frame.with_columns(frame[feature][order]) for order in orders)
        losses = np.array([whole - judge(scorer.scores(events)) for events in shuffled])
        (auc, ams_), (auc_se, ams_se) = losses.mean(axis=0), losses.std(axis=0, ddof=1) / np.sqrt(shuffles)
        found.append(Importance(feature, float(auc), float(auc_se), float(ams_), float(ams_se)))
    return tuple(sorted(found, key=lambda entry: -entry.auc))


@dataclass(frozen=True)
class Contributions:
    """What features add to the log-odds of events.

    Attributes:
        features: names of the p features.
        values: (n, p) their values, NaN where missing.
        parts: (n, p) what they add.
        weight: (n,) weights of the events; each class sums to one half.
    """

    features: tuple[str, ...]
    values: NDArray[np.float64]
    parts: NDArray[np.float64]
    weight: NDArray[np.float64]

    @property
    def size(self) -> NDArray[np.float64]:
        """(p,) weighted mean magnitude of what each feature adds."""
        mean: NDArray[np.float64] = self.weight @ np.abs(self.parts)
        return mean
