"""What a model loses when a feature is shuffled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from higgsbench.metrics.classification import roc_auc

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl
    from numpy.typing import NDArray

__all__ = ["Importance", "Scorer", "permutation_importance"]


class Scorer(Protocol):
    """Whatever scores events: a stored model, or the blend of a run."""

    @property
    def name(self) -> str:
        """The row whose scores these are."""
        ...

    def scores(self, frame: pl.DataFrame) -> NDArray[np.float64]:
        """Return (n,) log-odds of events, missing values as null."""
        ...


@dataclass(frozen=True)
class Importance:
    """Loss of weighted AUC when one feature is shuffled.

    Attributes:
        feature: the column.
        loss: mean loss over shuffles; near zero or below, the feature does not matter to this model.
        se: standard error of that mean from the shuffles; that the events are few is not in it.
    """

    feature: str
    loss: float
    se: float


def permutation_importance(
    scorer: Scorer,
    frame: pl.DataFrame,
    y: NDArray[np.bool_],
    weight: NDArray[np.float64],
    features: Sequence[str],
    *,
    shuffles: int = 3,
    seed: int = 0,
) -> tuple[Importance, ...]:
    """Shuffle one feature at a time and score again (Breiman, Machine Learning 45 (2001) 5, with weighted AUC).

    Only events that the model has not seen tell what a feature is worth. Features that say the same stand in for each
    other, so that all of them can look unimportant.

    Args:
        scorer: the model.
        frame: (n,) events that it has not seen.
        y: (n,) their truth.
        weight: (n,) their evaluation weights.
        features: columns to shuffle.
        shuffles: how often each is shuffled.
        seed: seed of the shuffles.

    Returns:
        One entry per feature, most important first.
    """
    rng = np.random.default_rng(seed)
    whole = roc_auc(y, scorer.scores(frame), weight).value
    found = []
    for feature in features:
        losses = []
        for _ in range(shuffles):
            shuffled = frame.with_columns(frame[feature][rng.permutation(frame.height)])
            losses.append(whole - roc_auc(y, scorer.scores(shuffled), weight).value)
        se = float(np.std(losses, ddof=1) / np.sqrt(shuffles)) if shuffles > 1 else 0.0
        found.append(Importance(feature, float(np.mean(losses)), se))
    return tuple(sorted(found, key=lambda entry: -entry.loss))
