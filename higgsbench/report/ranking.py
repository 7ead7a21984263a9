"""Average ranks of a run's rows, as `higgsbench compare` finds them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from higgsbench.compare import load_contenders
from higgsbench.compare.contest import rank_pictures

if TYPE_CHECKING:
    from pathlib import Path

    from higgsbench.compare.contest import RankPicture

__all__ = ["average_ranks"]

_REPLICAS = (50, 200)
"""Fewest and most bootstrap replicas; the standard error of a standard error is 10% with 50 of them."""

_DRAWS = 40_000_000
"""Events times rows times replicas that take a few seconds; above, there are fewer replicas."""


def average_ranks(folder: Path) -> tuple[RankPicture, ...]:
    """Rank the rows of a run by AMS and by weighted AUC; nothing where there is one row only.

    Args:
        folder: the run's folder.

    Raises:
        StoreError: if the run is damaged.
    """
    contenders, _ = load_contenders([str(folder)])
    if len(contenders) < 2:
        return ()
    size = sum(c.scores.size for c in contenders)
    found = rank_pictures(contenders, replicas=min(max(_DRAWS // size, _REPLICAS[0]), _REPLICAS[1]))
    return tuple(found[metric] for metric in ("ams", "auc") if metric in found)
