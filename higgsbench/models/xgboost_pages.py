"""Rows on disk as XGBoost takes them. Imported only where XGBoost trains from disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import xgboost

if TYPE_CHECKING:
    from pathlib import Path

    from higgsbench.models.out_of_core import Training

__all__ = ["pages"]


class _Pages(xgboost.DataIter):
    def __init__(self, events: Training, prefix: str) -> None:
        self.events = events
        self.blocks = events.data.blocks()
        super().__init__(cache_prefix=prefix)

    def next(self, input_data: Callable[..., Any]) -> bool:
        """Hand over the next block, if there is one."""
        found = next(self.blocks, None)
        if found is None:
            return False
        at, values = found
        input_data(data=values, label=self.events.y[at].astype(np.float32), weight=self.events.weight[at])
        return True

    def reset(self) -> None:
        """Begin again."""
        self.blocks = self.events.data.blocks()


def pages(events: Training, prefix: Path) -> xgboost.DataIter:
    """Return an iterator over blocks of events whose bins XGBoost keeps in files that begin with a prefix."""
    return _Pages(events, str(prefix))
