"""The approximate median significance (AMS): its value, its derivatives, and its curve over all cuts."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, overload

import numpy as np

from higgsbench.errors import MetricError
from higgsbench.metrics.weights import checked_labels, checked_scores, checked_weights, float_values
from higgsbench.schema import B_REG

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["AMSCurve", "ams", "ams_gradient", "ams_scan", "descending_order"]


SERIES_BELOW = 1e-2
_CHUNK = 1 << 15
# (1 + x) ln(1 + x) - x = sum over k >= 2 of (-1)^k x^k / (k (k - 1)); eleven terms reach 1e-20 at x = 0.01.
HALF_SQUARE = tuple((-1.0) ** k / (k * (k - 1)) for k in range(2, 13))
# ln(1 + x) - x = sum over k >= 2 of (-1)^(k+1) x^k / k
_LOG_REST = tuple((-1.0) ** (k + 1) / k for k in range(2, 13))


def horner(x: NDArray[np.float64], coefficients: tuple[float, ...]) -> NDArray[np.float64]:
    total = np.full_like(x, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        total *= x
        total += c
    return total


def _entropy(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (1 + x) ln(1 + x) - x without cancellation."""
    small = x < SERIES_BELOW
    if small.all():
        return x * x * horner(x, HALF_SQUARE)
    direct = (1.0 + x) * np.log1p(x) - x
    if small.any():
        xs = x[small]
        direct[small] = xs * xs * horner(xs, HALF_SQUARE)
    return direct


def _log_rest(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ln(1 + x) - x without cancellation."""
    direct = np.log1p(x) - x
    small = x < SERIES_BELOW
    if small.any():
        xs = x[small]
        direct[small] = xs * xs * horner(xs, _LOG_REST)
    return direct


def _checked(name: str, values: NDArray[np.float64]) -> None:
    bad = ~(values >= 0.0) | np.isinf(values)
    if bad.any():
        raise MetricError(f"{name} must be finite and not negative, got {values[bad].flat[0]}")


def raw_ams(s: NDArray[np.float64], b: NDArray[np.float64], b_reg: float) -> NDArray[np.float64]:
    """AMS of 1-d arrays that are known to be finite and not negative, in chunks that stay in the CPU's cache."""
    out = np.empty(s.shape)
    for lo in range(0, s.size, _CHUNK):
        part = slice(lo, lo + _CHUNK)
        total = b[part] + b_reg
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            x = s[part] / total
            value = np.sqrt(2.0 * total * _entropy(x))
        beyond = ~np.isfinite(value)
        if beyond.any():
            value[beyond] = _of_extremes(s[part][beyond], total[beyond])
        out[part] = value
    if b_reg == 0.0:
        empty = b == 0.0
        out[empty] = np.where(s[empty] > 0.0, np.inf, 0.0)
    return out


def _of_extremes(s: NDArray[np.float64], total: NDArray[np.float64]) -> NDArray[np.float64]:
    """AMS where s / total, or what follows from it, is beyond the largest number: factor by factor, in logarithms."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        x = s / total
        log = np.where(x > 1e10, np.log(s) - np.log(total), np.log1p(x))
        # (s + total) ln(1 + x) - s = s ((1 + 1/x) ln(1 + x) - 1)
        out = np.sqrt(2.0) * np.sqrt(s) * np.sqrt(np.maximum((1.0 + total / s) * log - 1.0, 0.0))
        out = np.where(x < 1e-6, s / np.sqrt(total), out)  # the limit of small x
    return np.where(s == 0.0, 0.0, out)


@overload
def ams(s: float, b: float, b_reg: float = ...) -> float: ...
@overload
def ams(s: ArrayLike, b: ArrayLike, b_reg: float = ...) -> float | NDArray[np.float64]: ...
def ams(s: ArrayLike, b: ArrayLike, b_reg: float = B_REG) -> float | NDArray[np.float64]:
    """Approximate median significance of s expected signal events over b expected background events.

    AMS = sqrt(2 ((s + b + b_reg) ln(1 + s / (b + b_reg)) - s)), equation (7) of PMLR 42 (2015) 19. Exact to
    rounding for tiny s / (b + b_reg), where the printed form cancels; valid for s = 0 and b = 0 alike.

    Args:
        s: expected signal (summed evaluation weights), scalar or array.
        b: expected background, scalar or array that broadcasts against `s`.
        b_reg: regularisation of the background, 10 in the challenge.

    Returns:
        A float for scalars, otherwise an array of the broadcast shape, in units of standard deviations. With
        b + b_reg = 0 the value is infinite for s > 0 and 0 for s = 0.

    Raises:
        MetricError: if s, b or b_reg is negative, NaN or infinite.
    """
    s_, b_ = np.broadcast_arrays(float_values(s, "s"), float_values(b, "b"))
    _checked("s", s_)
    _checked("b", b_)
    _checked("b_reg", float_values(b_reg, "b_reg"))
    values = raw_ams(s_.ravel(), b_.ravel(), float(b_reg)).reshape(s_.shape)
    return float(values) if values.ndim == 0 else values


def ams_gradient(s: ArrayLike, b: ArrayLike, b_reg: float = B_REG) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Derivatives of the AMS by s and by b, for error propagation.

    dAMS/ds = ln(1 + x) / AMS and dAMS/db = (ln(1 + x) - x) / AMS with x = s / (b + b_reg); both have finite limits at
    s = 0, namely 1 / sqrt(b + b_reg) and 0.

    Args:
        s: expected signal, any shape.
        b: expected background, broadcasts against `s`.
        b_reg: regularisation of the background; b + b_reg must be positive.

    Returns:
        Two arrays of the broadcast shape.

    Raises:
        MetricError: if an input is negative or not finite, or b + b_reg is zero.
    """
    s_, b_ = np.broadcast_arrays(
        np.atleast_1d(np.asarray(s, dtype=np.float64)), np.atleast_1d(np.asarray(b, dtype=np.float64))
    )
    _checked("s", s_)
    _checked("b", b_)
    _checked("b_reg", np.asarray(b_reg, dtype=np.float64))
    total = b_ + b_reg
    if (total <= 0.0).any():
        raise MetricError("the gradient of the AMS needs b + b_reg > 0")
    x = s_ / total
    value = np.sqrt(2.0 * total * _entropy(x))
    safe = np.where(value > 0.0, value, 1.0)
    by_s = np.where(value > 0.0, np.log1p(x) / safe, 1.0 / np.sqrt(total))
    by_b = np.where(value > 0.0, _log_rest(x) / safe, 0.0)
    return by_s, by_b


_ALL_BUT_SIGN = np.int64(2**63 - 1)

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


@dataclass(frozen=True)
class AMSCurve:
    """AMS at every possible cut, from the tightest (index 0) to selecting everything (last index).

    Attributes:
        threshold: (k,) the distinct scores, descending; cut i selects all events with score >= threshold[i], so a
            cut never falls inside tied scores.
        s: (k,) selected signal, summed weights.
        b: (k,) selected background, summed weights.
        ams: (k,) the significance; NaN where negative weights make s or b negative.
        b_reg: regularisation used.
        y: (n,) truth, w: (n,) weights of the events as they came.
        order: (n,) positions of the events by descending score.
        last: (n,) whether an event, in that order, is the last of its score; None where all scores differ.
    """

    threshold: NDArray[np.float64]
    s: NDArray[np.float64]
    b: NDArray[np.float64]
    ams: NDArray[np.float64]
    b_reg: float
    y: NDArray[np.bool_] = field(repr=False)
    w: NDArray[np.float64] = field(repr=False)
    order: NDArray[np.int64] = field(repr=False)
    last: NDArray[np.bool_] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return self.threshold.size

    # Made when asked for: memory that is new to the process costs more than the arithmetic of a scan.
    @cached_property
    def count(self) -> NDArray[np.int64]:
        """(k,) number of events selected."""
        if self.last is None:
            return np.arange(1, self.order.size + 1, dtype=np.int64)
        return np.flatnonzero(self.last) + 1

    @cached_property
    def sorted_labels(self) -> NDArray[np.bool_]:
        """(n,) truth in the order of descending score."""
        return self.y[self.order]

    @cached_property
    def sorted_weights(self) -> NDArray[np.float64]:
        """(n,) weights in the order of descending score."""
        return self.w[self.order]

    @property
    def fraction(self) -> NDArray[np.float64]:
        """(k,) share of the events that is selected, unweighted."""
        fraction: NDArray[np.float64] = self.count / self.count[-1]
        return fraction

    def _class_variance(self, of_signal: bool) -> NDArray[np.float64]:
        """Variance of the selected sum of one class, its total held fixed.

        With p the selected share of the class, events contribute w (1 - p) inside the cut and -w p outside, hence
        (1 - 2 p) sum_selected w^2 + p^2 sum_all w^2.
        """
        w2 = np.where(self.sorted_labels == of_signal, self.sorted_weights**2, 0.0)
        selected = np.cumsum(w2)[self.count - 1]
        total = self.s[-1] if of_signal else self.b[-1]
        p = (self.s if of_signal else self.b) / total if total != 0.0 else np.zeros_like(self.s)
        variance: NDArray[np.float64] = np.maximum((1.0 - 2.0 * p) * selected + p**2 * selected[-1], 0.0)
        return variance

    @cached_property
    def s_variance(self) -> NDArray[np.float64]:
        """(k,) variance of `s` from the finite number of simulated events."""
        return self._class_variance(True)

    @cached_property
    def b_variance(self) -> NDArray[np.float64]:
        """(k,) variance of `b` from the finite number of simulated events."""
        return self._class_variance(False)

    @cached_property
    def se(self) -> NDArray[np.float64]:
        """(k,) standard error of the AMS at a fixed cut (delta method); infinite where the AMS is undefined."""
        ok = np.isfinite(self.ams) & (self.b + self.b_reg > 0.0)
        out = np.full(len(self), np.inf)
        by_s, by_b = ams_gradient(self.s[ok], self.b[ok], self.b_reg)
        out[ok] = np.sqrt(by_s**2 * self.s_variance[ok] + by_b**2 * self.b_variance[ok])
        return out

    @cached_property
    def b_relative_error(self) -> NDArray[np.float64]:
        """(k,) relative standard error of the selected background; infinite where no background is selected."""
        out = np.full(len(self), np.inf)
        np.divide(np.sqrt(self.b_variance), np.abs(self.b), out=out, where=self.b != 0.0)
        return out


def ams_scan(y_true: ArrayLike, score: ArrayLike, sample_weight: ArrayLike | None, b_reg: float = B_REG) -> AMSCurve:
    """Compute the AMS at every cut between distinct scores, in O(n log n).

    Args:
        y_true: (n,) truth, 1 or True for signal.
        score: (n,) any score that grows with signal likeness; infinities are allowed, NaN is not.
        sample_weight: (n,) evaluation weights (see `evaluation_weights`); the class sums are taken as they are.
        b_reg: regularisation of the background.

    Returns:
        The curve over all k <= n distinct scores, tightest cut first.

    Raises:
        MetricError: for NaN scores, labels other than 0/1, weights that are missing or not finite, unequal lengths.
    """
    y = checked_labels(y_true)
    s = checked_scores(score, y.size)
    w = checked_weights(sample_weight, y.size)
    if not 0.0 <= b_reg < np.inf:
        raise MetricError(f"b_reg must be finite and not negative, got {b_reg}")
    order, sorted_score = descending_order(s)
    signal, background = _selected(y, w, order)
    last = np.empty(y.size, dtype=np.bool_)
    last[-1] = True
    np.not_equal(sorted_score[1:], sorted_score[:-1], out=last[:-1])
    distinct = bool(last.all())
    if not distinct:
        sorted_score, signal, background = (a[last] for a in (sorted_score, signal, background))
    return AMSCurve(
        threshold=sorted_score,
        s=signal,
        b=background,
        ams=_curve_values(signal, background, w, b_reg),
        b_reg=float(b_reg),
        y=y,
        w=w,
        order=order,
        last=None if distinct else last,
    )


def _selected(
    y: NDArray[np.bool_], w: NDArray[np.float64], order: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Running sums of the weights of signal and of background, (n,) each.

    Part by part in the CPU's cache, each part going on where the last one ended: the same additions in the same order.
    """
    n = order.size
    signal, background = np.empty(n), np.empty(n)
    weight, label = np.empty(min(n, _CHUNK)), np.empty(min(n, _CHUNK), dtype=np.bool_)
    signal_before = background_before = 0.0
    for lo in range(0, n, _CHUNK):
        at = order[lo : lo + _CHUNK]
        own, of_signal = weight[: at.size], label[: at.size]
        w.take(at, out=own, mode="clip")  # no position is outside; "raise" would take a copy to make sure
        y.take(at, out=of_signal, mode="clip")
        s, b = signal[lo : lo + at.size], background[lo : lo + at.size]
        np.multiply(own, of_signal, out=s)
        np.subtract(own, s, out=b)  # exact: what is left is the weight or nothing
        s[0] += signal_before
        b[0] += background_before
        np.cumsum(s, out=s)
        np.cumsum(b, out=b)
        signal_before, background_before = float(s[-1]), float(b[-1])
    return signal, background


def _curve_values(
    s: NDArray[np.float64], b: NDArray[np.float64], w: NDArray[np.float64], b_reg: float
) -> NDArray[np.float64]:
    if w.min() >= 0.0:
        return raw_ams(s, b, b_reg)
    defined = (s >= 0.0) & (b >= 0.0)
    out = np.full(s.size, np.nan)
    out[defined] = raw_ams(s[defined], b[defined], b_reg)
    return out
