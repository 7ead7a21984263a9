"""Checks that every metric applies to its input before it computes anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.errors import MetricError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["checked_labels", "checked_scores", "checked_selection", "checked_weights", "first_bad", "float_values"]


def first_bad(bad: NDArray[np.bool_]) -> int:
    """Return the position of the first True."""
    return int(np.argmax(bad))


def checked_labels(y_true: ArrayLike) -> NDArray[np.bool_]:
    """Return the truth as booleans (True = signal).

    Raises:
        MetricError: if the array is not one-dimensional, is empty or holds anything but two classes 0/1.
    """
    try:
        y: NDArray[Any] = np.asarray(y_true)
    except ValueError as error:
        raise MetricError(f"y_true must hold numbers in one array: {error}") from error
    if y.ndim != 1 or y.size == 0:
        raise MetricError(f"y_true must be a non-empty 1-d array, got shape {y.shape}")
    if y.dtype == np.bool_:
        return y
    if y.dtype.kind not in "iufO":
        raise MetricError(f"y_true must hold only 0 and 1, got values of type {y.dtype}")
    bad = (y != 0) & (y != 1)
    if bad.any():
        at = first_bad(bad)
        raise MetricError(f"y_true must hold only 0 and 1, got {y[at]!r} at position {at}")
    return y.astype(np.bool_)


def float_values(values: ArrayLike, name: str) -> NDArray[np.float64]:
    """Return values as float64.

    Raises:
        MetricError: if they are no numbers, or of ragged shape.
    """
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise MetricError(f"{name} must hold numbers in one array: {error}") from error


def checked_scores(score: ArrayLike, n: int) -> NDArray[np.float64]:
    """Return scores as float64 of shape (n,); infinities order like any other value, NaN does not.

    Raises:
        MetricError: if the length differs from n or a score is NaN.
    """
    s = float_values(score, "score")
    if s.shape != (n,):
        raise MetricError(f"score must have shape ({n},) like y_true, got {s.shape}")
    with np.errstate(over="ignore", invalid="ignore"):
        total = np.sum(s)
    if np.isnan(total):  # one pass without a temporary; inf - inf also gives NaN, so look again
        bad = np.isnan(s)
        if bad.any():
            raise MetricError(f"score is NaN at position {first_bad(bad)}")
    return s


def checked_weights(sample_weight: ArrayLike | None, n: int) -> NDArray[np.float64]:
    """Return event weights as float64 of shape (n,).

    Raises:
        MetricError: if weights are missing, not finite or of another length. There is no unweighted fallback:
            who wants every event to count the same passes ones.
    """
    if sample_weight is None:
        raise MetricError("sample_weight is required: this metric never falls back to unweighted events")
    w = float_values(sample_weight, "sample_weight")
    if w.shape != (n,):
        raise MetricError(f"sample_weight must have shape ({n},) like y_true, got {w.shape}")
    with np.errstate(over="ignore", invalid="ignore"):
        total = np.sum(w)
    if not np.isfinite(total):
        bad = ~np.isfinite(w)
        if bad.any():
            raise MetricError(f"sample_weight is not finite at position {first_bad(bad)}")
        raise MetricError("sample_weight sums to more than a number can hold")
    return w


def checked_selection(selected: ArrayLike, n: int) -> NDArray[np.bool_]:
    """Return a selection of events, or one per column, as booleans whose first axis has length n.

    Raises:
        MetricError: if the length differs from n or the values are not booleans.
    """
    keep: NDArray[Any] = np.asarray(selected)
    if keep.ndim == 0 or keep.shape[0] != n:
        raise MetricError(f"selected must have {n} rows like y_true, got shape {keep.shape}")
    if keep.dtype != np.bool_ and not ((keep == 0) | (keep == 1)).all():
        raise MetricError("selected must hold only 0 and 1")
    return keep.astype(np.bool_, copy=False)
