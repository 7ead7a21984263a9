"""Rows on disk as LightGBM takes them. Imported only where LightGBM trains from disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lightgbm
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from higgsbench.models.out_of_core import RowsOnDisk

__all__ = ["Rows"]


class Rows(lightgbm.Sequence):
    """Random access to rows; LightGBM samples some for its bins and then reads all in batches.

    Args:
        data: the rows.
    """

    batch_size = 1 << 14

    def __init__(self, data: RowsOnDisk) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, idx: int | slice | list[int]) -> NDArray[np.float64]:
        """Return a row or several in double precision, as LightGBM wants them."""
        at = np.asarray(idx, dtype=np.int64) if isinstance(idx, list) else idx
        return self.data.values(at).astype(np.float64)
