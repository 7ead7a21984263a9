"""Stable descending order of scores, faster than numpy's argsort."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["descending_order"]

_ALL_BUT_SIGN = np.int64(2**63 - 1)
_CHUNK = 1 << 15

_STEPS = 16
"""Steps from a score in the wrong place to the ends of its run; runs are nearly always of two or three."""


def descending_order(score: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the stable order of descending scores, and the scores in that order.

    numpy sorts plain 64-bit integers several times faster than it argsorts (vector instructions). So the upper bits of
    each score and its position share one integer; scores that differ only in the bits cut off are put right afterwards.

    Args:
        score: (n,) without NaN.

    Returns:
        (n,) positions and (n,) scores; tied scores keep their order.
    """
    n = score.size
    shift = np.uint64(max(n - 1, 1).bit_length())
    mask = (np.uint64(1) << shift) - np.uint64(1)
    keys = np.empty(n, dtype=np.uint64)
    # In pieces that stay in the CPU's cache: fresh memory for whole temporaries would cost more than the arithmetic.
    for lo in range(0, n, _CHUNK):
        part = keys[lo : lo + _CHUNK]
        part[:] = _upper(score[lo : lo + _CHUNK], mask)
        part |= np.arange(lo, lo + part.size, dtype=np.uint64)
    keys.sort()
    keys &= mask
    order = keys.view(np.int64)
    ordered = score[order]
    wrong = np.flatnonzero(ordered[1:] > ordered[:-1])
    if wrong.size:
        _mend(mask, order, ordered, wrong)
    return order, ordered


def _upper(score: NDArray[np.float64], mask: np.uint64) -> NDArray[np.uint64]:
    """Integers that order like the scores, descending, without the bits of the mask."""
    bits = (score + 0.0).view(np.int64)  # -0.0 and 0.0 are one score
    # Bits of positive doubles grow with the number and those of negative ones with its size: turned round for the first
    # and left for the second, which their sign bit puts last, they descend as unsigned integers.
    turned = bits >> 63
    np.invert(turned, out=turned)
    turned &= _ALL_BUT_SIGN
    turned ^= bits
    upper: NDArray[np.uint64] = turned.view(np.uint64)
    upper &= ~mask
    return upper


def _mend(mask: np.uint64, order: NDArray[np.int64], ordered: NDArray[np.float64], wrong: NDArray[np.int64]) -> None:
    """Sort, in place, the runs of equal upper bits in which scores stand in the wrong order.

    Args:
        mask: the bits cut off.
        order: (n,) positions.
        ordered: (n,) scores in that order.
        wrong: where a score is followed by a larger one.
    """
    first, length = _runs(mask, ordered, wrong)
    run = np.repeat(np.arange(first.size), length)
    begin = np.cumsum(length) - length
    rows = np.arange(int(length.sum())) - np.repeat(begin, length) + np.repeat(first, length)
    # Positions break ties, so that tied scores keep their order.
    within = np.lexsort((order[rows], -ordered[rows], run))
    order[rows], ordered[rows] = order[rows][within], ordered[rows][within]


def _runs(
    mask: np.uint64, ordered: NDArray[np.float64], wrong: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First position and length of each run of equal upper bits that holds one of the positions in `wrong`."""
    own = _upper(ordered[wrong], mask)
    ends = []
    for step in (-1, 1):
        end = wrong.copy()
        going = np.arange(wrong.size)
        for _ in range(_STEPS):
            ahead = end[going] + step
            inside = (ahead >= 0) & (ahead < ordered.size)
            going, ahead = going[inside], ahead[inside]
            same = _upper(ordered[ahead], mask) == own[going]
            going, ahead = going[same], ahead[same]
            end[going] = ahead
            if going.size == 0:
                break
        else:  # many scores that are all but the same; memory for all upper bits is slow to get, but its size is known
            upper = _upper(ordered, mask)
            runs = np.unique(own)
            start = np.searchsorted(upper, runs, side="left")
            return start, np.searchsorted(upper, runs, side="right") - start
        ends.append(end)
    first = np.unique(ends[0])
    return first, np.unique(ends[1]) - first + 1
