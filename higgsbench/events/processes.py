"""Which physics process an event of the challenge comes from, told by its weight.

The official file does not name processes, but events that were generated together share one weight: signal has four
values, Z -> tau tau thirteen, ttbar one, and the weights of W + jets are continuous. Files rescale whole classes
(KaggleWeight, other luminosities, a subset), which leaves the ratios alone; it is those that are recognised here.
This knowledge serves systematic shifts. It is never a feature: it gives away the label.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import polars as pl

from higgsbench.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

FloatArray: TypeAlias = "npt.NDArray[np.float64]"
Table: TypeAlias = "Mapping[str, tuple[float, ...]]"

__all__ = ["BACKGROUND_WEIGHTS", "SIGNAL_WEIGHTS", "recognise_processes"]

SIGNAL_WEIGHTS: Table = MappingProxyType(
    {
        "ggF": (0.00572068250088,),
        "VBF": (0.000461281573949,),
        "VH": (0.00081448039868, 0.000461025356734),  # WH, ZH
    }
)
"""Values of `Weight` of signal in the official file (818,238 events)."""

BACKGROUND_WEIGHTS: Table = MappingProxyType(
    {
        "Z": (
            0.512739889611,
            0.443597626883,
            0.418760425129,
            0.240714551172,
            0.130775103251,
            0.109322374518,
            0.0944595938766,
            0.0936590129021,
            0.0917702760288,
            0.0254337596084,
            0.0225325724501,
            0.0217574936722,
            0.0195327618805,
        ),
        "ttbar": (0.226870077356,),
    }
)
"""Values of `Weight` of background with discrete weights; W + jets is the continuous rest."""

_RELATIVE = 1e-6  # files keep 12 digits; the closest pair of values, VBF and ZH, is 6e-4 apart
_ANCHORS = 24  # how many of the most frequent values are tried as the image of a known one


def _nearest(values: FloatArray, wanted: FloatArray) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    """Position in sorted `values` nearest to each of `wanted`, and whether it is close enough."""
    right = np.clip(np.searchsorted(values, wanted), 0, len(values) - 1)
    left = np.maximum(right - 1, 0)
    best = np.where(np.abs(values[left] - wanted) <= np.abs(values[right] - wanted), left, right)
    return best, np.abs(values[best] - wanted) <= _RELATIVE * wanted


def _best_scale(values: FloatArray, counts: npt.NDArray[np.int64], known: FloatArray) -> tuple[float, int]:
    """The common factor that maps most known values onto found ones, and how many those are."""
    best = (0, 0, 0.0)
    for anchor in np.argsort(-counts, kind="stable")[:_ANCHORS]:
        for value in known:
            scale = float(values[anchor] / value)
            position, close = _nearest(values, known * scale)
            score = (int(close.sum()), int(counts[position[close]].sum()), scale)
            if score[:2] > best[:2]:
                best = score
    return best[2], best[0]


def _assign(weights: FloatArray, table: Table, rest: str | None) -> npt.NDArray[np.str_]:
    """Name the process of each weight of one class, shape (n,)."""
    values, inverse, counts = np.unique(weights, return_inverse=True, return_counts=True)
    names = np.full(len(values), rest or "", dtype="<U8")
    open_values = np.ones(len(values), dtype=np.bool_)
    # A continuous weight repeats by chance only; without continuous weights every value is one of the known.
    repeated = counts > (max(1, len(weights) // 1000) if rest is not None else 0)
    remaining = dict(table)
    least = 2  # one value alone fits every known one
    while remaining and open_values.any():
        known = np.array([v for vs in remaining.values() for v in vs])
        owner = np.array([name for name, vs in remaining.items() for _ in vs])
        index = np.flatnonzero(open_values & (repeated if least == 1 else True))
        if not len(index):
            break
        scale, matched = _best_scale(values[index], counts[index], known)
        # After the first match, a process whose yield was scaled on its own stands apart: the last one left is it.
        if matched < least or (least == 1 and len(remaining) > 1 and matched == 1):
            break
        position, close = _nearest(values[index], known * scale)
        names[index[position[close]]] = owner[close]
        open_values[index[position[close]]] = False
        remaining = {k: v for k, v in remaining.items() if k not in set(owner[close])}
        least = 1
    if least == 2 or (rest is None and open_values.any()):
        raise DataError(
            "the weights do not show the processes of the challenge's simulation (4 values of signal, 13 of Z, "
            "1 of ttbar, continuous W): a normalisation of single processes cannot be shifted in this file"
        )
    return names[inverse]


def recognise_processes(weights: pl.Series, labels: pl.Series) -> pl.Series:
    """Name the process of each event of an official or simulated file.

    Works on any subset that holds at least two values of each present class, on `Weight` or `KaggleWeight` of one
    set, and after the yields of a class or of one process in it were scaled.

    Args:
        weights: event weights, shape (n,).
        labels: "s" or "b", shape (n,).

    Returns:
        Names out of ggF, VBF, VH, Z, ttbar, W; shape (n,).

    Raises:
        DataError: if the weights do not have this structure.
    """
    weight, label = weights.cast(pl.Float64).to_numpy(), labels.to_numpy().astype(str)
    names = np.full(len(weight), "", dtype="<U8")
    for value, table, rest in (("s", SIGNAL_WEIGHTS, None), ("b", BACKGROUND_WEIGHTS, "W")):
        chosen = label == value
        if chosen.any():
            names[chosen] = _assign(weight[chosen], table, rest)
    return pl.Series("process", names)
