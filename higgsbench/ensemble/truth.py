"""What scores are judged by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Truth"]


@dataclass(frozen=True)
class Truth:
    """What scores are judged by.

    Attributes:
        y: (n,) truth.
        weight: (n,) evaluation weights at the reference totals.
        fold: (repeats, n) fold numbers.
        totals: reference totals (N_s, N_b).
        b_reg: regularisation of the background in the AMS.
        rule: rule that chooses the cut.
    """

    y: NDArray[np.bool_]
    weight: NDArray[np.float64]
    fold: NDArray[np.int64]
    totals: tuple[float, float]
    b_reg: float
    rule: str
