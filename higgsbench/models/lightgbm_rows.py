"""Rows on disk as LightGBM takes them. Imported only where LightGBM trains from disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lightgbm
import numpy as np

from higgsbench.models.out_of_core import release

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from higgsbench.models.out_of_core import RowsOnDisk

__all__ = ["Rows"]

_RELEASE = 4096
"""Single rows after which mapped pages are let go."""


class Rows(lightgbm.Sequence):
    """Random access to rows; LightGBM samples some for its bins and then reads all in batches.

    Args:
        data: the rows.
    """

    batch_size = 1 << 14

    def __init__(self, data: RowsOnDisk) -> None:
        self.data = data
        self._read = 0

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, idx: int | slice | list[int]) -> NDArray[np.float64]:
        """Return a row or several in double precision, as LightGBM wants them."""
        at = np.asarray(idx, dtype=np.int64) if isinstance(idx, list) else idx
        values = self.data.values(at).astype(np.float64)
        self._read += 1
        if isinstance(at, slice) or self._read % _RELEASE == 0:
            release(self.data.X)
        return values
