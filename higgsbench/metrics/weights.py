"""Checks of labels, scores and weights, and the evaluation weights under which every printed metric is computed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from higgsbench.errors import MetricError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Bools: TypeAlias = NDArray[np.bool_]
    Floats: TypeAlias = NDArray[np.float64]
    Ints: TypeAlias = NDArray[np.int64]


def checked_labels(y_true: ArrayLike) -> Bools:
    """Return the truth (n,) as booleans, True for signal; refuse other shapes, no events, and values except 0 and 1."""
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
        at = int(np.argmax(bad))
        raise MetricError(f"y_true must hold only 0 and 1, got {y[at]!r} at position {at}")
    return y.astype(np.bool_)


def float_values(values: ArrayLike, name: str, n: int | None = None) -> Floats:
    """Return values as float64; refuse text, and any shape other than (n,) if n is given."""
    try:
        found = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise MetricError(f"{name} must hold numbers in one array: {error}") from error
    if n is not None and found.shape != (n,):
        raise MetricError(f"{name} must have shape ({n},) like y_true, got {found.shape}")
    return found


def not_negative(values: ArrayLike, name: str) -> Floats:
    """Return values as float64; refuse negative ones, NaN and infinities."""
    found = float_values(values, name)
    bad = ~(found >= 0.0) | np.isinf(found)
    if bad.any():
        raise MetricError(f"{name} must be finite and not negative, got {found[bad].flat[0]}")
    return found


def checked_scores(score: ArrayLike, n: int) -> Floats:
    """Return scores as float64 of shape (n,); infinities are allowed, NaN is refused."""
    s = float_values(score, "score", n)
    bad = np.isnan(s)
    if bad.any():
        raise MetricError(f"score is NaN at position {np.argmax(bad)}")
    return s


def checked_weights(sample_weight: ArrayLike | None, n: int) -> Floats:
    """Return finite event weights as float64 of shape (n,).

    There is no unweighted fallback: pass ones if every event should count the same.
    """
    if sample_weight is None:
        raise MetricError("sample_weight is required: this metric never falls back to unweighted events")
    w = float_values(sample_weight, "sample_weight", n)
    bad = ~np.isfinite(w)
    if bad.any():
        raise MetricError(f"sample_weight is not finite at position {np.argmax(bad)}")
    with np.errstate(over="ignore", invalid="ignore"):
        if not np.isfinite(np.sum(w)):
            raise MetricError("the sum of sample_weight overflows")
    return w


def checked_events(y_true: ArrayLike, score: ArrayLike, weight: ArrayLike | None) -> tuple[Bools, Floats, Floats]:
    """Return labels, scores and weights (n,), each checked by its function."""
    y = checked_labels(y_true)
    return y, checked_scores(score, y.size), checked_weights(weight, y.size)


def checked_selection(selected: ArrayLike, n: int) -> Bools:
    """Return a selection of events as booleans of shape (n,); other shapes and values are refused."""
    keep: NDArray[Any] = np.asarray(selected)
    if keep.shape != (n,) or (keep.dtype != np.bool_ and not ((keep == 0) | (keep == 1)).all()):
        raise MetricError(f"selected must hold {n} values 0 or 1, one for each event, got shape {keep.shape}")
    return keep.astype(np.bool_, copy=False)


_TINY = 1e-280


def evaluation_weights(y_true: ArrayLike, sample_weight: ArrayLike | None, n_s: float, n_b: float) -> Floats:
    """Rescale weights per class so that the class sums equal the reference totals.

    A subset of the events (a fold, a test set) must represent the whole expectation before its AMS means anything:
    AMS grows like the square root of the totals.

    Args:
        y_true: (n,) truth, 1 or True for signal.
        sample_weight: (n,) weights as stored with the events.
        n_s: reference total of signal, expected events.
        n_b: reference total of background, expected events.

    Raises:
        MetricError: if a class is absent or its weights do not sum to a positive number, or a total is not positive.

    Example:
        >>> half = higgsbench.evaluation_weights([1, 1, 0], [1.0, 3.0, 5.0], n_s=8.0, n_b=100.0)
        >>> print(half)
        [  2.   6. 100.]
    """
    for name, total in (("n_s", n_s), ("n_b", n_b)):
        if not 0.0 < total < np.inf:
            raise MetricError(f"{name} must be a positive number, got {total}")
    y = checked_labels(y_true)
    w = checked_weights(sample_weight, y.size)
    out = np.empty_like(w)
    for name, members, total in (("signal", y, n_s), ("background", ~y, n_b)):
        have = float(np.sum(w[members]))
        if not members.any() or not have > 0.0:
            raise MetricError(
                f"no {name} to weight: {int(members.sum())} {name} events with total weight {have} in {y.size} events"
            )
        own = w[members]
        if have < _TINY:  # the factor would overflow
            own = own / np.max(np.abs(own))
            have = float(np.sum(own))
        out[members] = own * (total / have)
        # A second step brings the sum to the total within rounding even for strongly varying weights.
        out[members] *= total / float(np.sum(out[members]))
    return out


def effective_sample_size(sample_weight: ArrayLike | None) -> float:
    """Return Kish's effective number of events, (sum w)^2 / sum w^2 (L. Kish, Survey Sampling, 1965, section 11.7)."""
    w = checked_weights(sample_weight, 0 if sample_weight is None else np.size(sample_weight))
    squares = float(np.sum(w**2))
    return float(np.sum(w)) ** 2 / squares if squares > 0.0 else 0.0


def equal_bins(values: Floats, weight: Floats, bins: int) -> NDArray[np.intp]:
    """Return the bin (n,) of each event among at most `bins` bins of equal weight; for missing values it is `bins`.

    Equal values share a bin, and events of negative weight count as events of zero weight.
    """
    place = np.full(values.size, bins, dtype=np.intp)
    present = ~np.isnan(values)
    own = values[present]
    order = np.argsort(own, kind="stable")
    running = np.cumsum(np.maximum(weight[present][order], 0.0))
    if own.size:
        at = np.searchsorted(running, running[-1] * np.arange(1, bins) / bins, side="right")
        edges = np.unique(own[order][np.minimum(at, own.size - 1)])
        place[present] = np.searchsorted(edges, own, side="right")
    return place
