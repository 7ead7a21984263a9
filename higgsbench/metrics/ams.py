"""The approximate median significance (AMS): its value, its derivatives, and its curve over all cuts.

Source: Adam-Bourdarios et al., "The Higgs boson machine learning challenge", PMLR 42 (2015) 19-55, equation (7);
after Cowan, Cranmer, Gross, Vitells, Eur. Phys. J. C 71 (2011) 1554, equation (97).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, overload

import numpy as np

from higgsbench.errors import MetricError
from higgsbench.metrics.weights import checked_events, not_negative
from higgsbench.schema import B_REG

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from higgsbench.metrics.weights import Bools, Floats, Ints

SERIES_BELOW = 1e-2
_CHUNK = 1 << 15
# (1 + x) ln(1 + x) - x = sum over k >= 2 of (-1)^k x^k / (k (k - 1)); eleven terms reach 1e-20 at x = 0.01.
HALF_SQUARE = tuple((-1.0) ** k / (k * (k - 1)) for k in range(2, 13))
# ln(1 + x) - x = sum over k >= 2 of (-1)^(k+1) x^k / k
_LOG_REST = tuple((-1.0) ** (k + 1) / k for k in range(2, 13))


def horner(x: Floats, coefficients: tuple[float, ...]) -> Floats:
    """Evaluate a polynomial; the constant comes first."""
    total = np.full_like(x, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        total *= x
        total += c
    return total


def _by_series(x: Floats, direct: Floats, coefficients: tuple[float, ...]) -> Floats:
    """Replace values at small x, where the closed form cancels, by x^2 times a series; modifies `direct` in place."""
    small = x < SERIES_BELOW
    if small.any():
        xs = x[small]
        direct[small] = xs * xs * horner(xs, coefficients)
    return direct


def _entropy(x: Floats) -> Floats:
    """Return (1 + x) ln(1 + x) - x without cancellation."""
    return _by_series(x, (1.0 + x) * np.log1p(x) - x, HALF_SQUARE)


def raw_ams(s: Floats, b: Floats, b_reg: float) -> Floats:
    """AMS of finite 1-d arrays without negative values, in chunks that stay in the CPU's cache."""
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


def _of_extremes(s: Floats, total: Floats) -> Floats:
    """AMS where s / total or a product with it overflows: factor by factor, in logarithms."""
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
def ams(s: ArrayLike, b: ArrayLike, b_reg: float = ...) -> float | Floats: ...
def ams(s: ArrayLike, b: ArrayLike, b_reg: float = B_REG) -> float | Floats:
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

    Example:
        >>> print(round(higgsbench.ams(100.0, 2500.0), 3))
        1.983
        >>> print(higgsbench.ams([100.0, 150.0], 2500.0).round(3))
        [1.983 2.965]
    """
    s_, b_ = np.broadcast_arrays(not_negative(s, "s"), not_negative(b, "b"))
    values = raw_ams(s_.ravel(), b_.ravel(), float(not_negative(b_reg, "b_reg"))).reshape(s_.shape)
    return float(values) if values.ndim == 0 else values


def ams_gradient(s: ArrayLike, b: ArrayLike, b_reg: float = B_REG) -> tuple[Floats, Floats]:
    """Return the derivatives of the AMS by s and by b, for error propagation; arguments as in `ams`.

    dAMS/ds = ln(1 + x) / AMS and dAMS/db = (ln(1 + x) - x) / AMS with x = s / (b + b_reg); both have finite limits at
    s = 0, namely 1 / sqrt(b + b_reg) and 0.

    Returns:
        Two arrays of the broadcast shape.

    Raises:
        MetricError: if an input is negative or not finite, or b + b_reg is zero.
    """
    s_, b_ = np.broadcast_arrays(np.atleast_1d(not_negative(s, "s")), np.atleast_1d(not_negative(b, "b")))
    total = b_ + not_negative(b_reg, "b_reg")
    if (total <= 0.0).any():
        raise MetricError("the gradient of the AMS needs b + b_reg > 0")
    x = s_ / total
    value = np.sqrt(2.0 * total * _entropy(x))
    safe = np.where(value > 0.0, value, 1.0)
    by_s = np.where(value > 0.0, np.log1p(x) / safe, 1.0 / np.sqrt(total))
    by_b = np.where(value > 0.0, _by_series(x, np.log1p(x) - x, _LOG_REST) / safe, 0.0)
    return by_s, by_b


@dataclass(frozen=True)
class AMSCurve:
    """AMS at every possible cut, from the tightest (index 0) to the one that selects every event (last index).

    Attributes:
        threshold: (k,) the distinct scores, descending; cut i selects all events with score >= threshold[i], so a
            cut never falls inside tied scores.
        s: (k,) selected signal, summed weights.
        b: (k,) selected background, summed weights.
        ams: (k,) the significance; NaN where negative weights make s or b negative.
        b_reg: regularisation used.
        count: (k,) number of events selected.
        sorted_labels: (n,) truth in the order of descending score.
        sorted_weights: (n,) weights in the order of descending score.
    """

    threshold: Floats
    s: Floats
    b: Floats
    ams: Floats
    b_reg: float
    count: Ints = field(repr=False)
    sorted_labels: Bools = field(repr=False)
    sorted_weights: Floats = field(repr=False)

    def __len__(self) -> int:
        return self.threshold.size

    @property
    def fraction(self) -> Floats:
        """(k,) unweighted share of the events selected."""
        fraction: Floats = self.count / self.count[-1]
        return fraction

    def _class_variance(self, of_signal: bool) -> Floats:
        """Return the variance (k,) of the selected sum of one class at a fixed class total.

        With p the selected share of the class, events contribute w (1 - p) inside the cut and -w p outside, hence
        (1 - 2 p) sum_selected w^2 + p^2 sum_all w^2.
        """
        w2 = np.where(self.sorted_labels == of_signal, self.sorted_weights**2, 0.0)
        selected = np.cumsum(w2)[self.count - 1]
        total = self.s[-1] if of_signal else self.b[-1]
        p = (self.s if of_signal else self.b) / total if total != 0.0 else np.zeros_like(self.s)
        variance: Floats = np.maximum((1.0 - 2.0 * p) * selected + p**2 * selected[-1], 0.0)
        return variance

    @cached_property
    def _b_variance(self) -> Floats:
        return self._class_variance(False)

    @cached_property
    def se(self) -> Floats:
        """(k,) standard error of the AMS at a fixed cut (delta method); infinite where the AMS is undefined."""
        ok = np.isfinite(self.ams) & (self.b + self.b_reg > 0.0)
        out = np.full(len(self), np.inf)
        by_s, by_b = ams_gradient(self.s[ok], self.b[ok], self.b_reg)
        out[ok] = np.sqrt(by_s**2 * self._class_variance(True)[ok] + by_b**2 * self._b_variance[ok])
        return out

    @cached_property
    def b_relative_error(self) -> Floats:
        """(k,) relative standard error of the selected background; infinite where no background is selected."""
        out = np.full(len(self), np.inf)
        np.divide(np.sqrt(self._b_variance), np.abs(self.b), out=out, where=self.b != 0.0)
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

    Example:
        >>> curve = higgsbench.ams_scan([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1], [30.0, 20.0, 30.0, 400.0])
        >>> print(curve.threshold, curve.ams.round(2))
        [0.9 0.8 0.7 0.1] [7.13 4.81 8.82 2.83]
    """
    y, s, w = checked_events(y_true, score, sample_weight)
    if not 0.0 <= b_reg < np.inf:
        raise MetricError(f"b_reg must be finite and not negative, got {b_reg}")
    order, sorted_score = descending_order(s)
    labels, weights = y[order], w[order]
    del order  # new memory costs a third of the time, so there are as few large arrays at a time as possible
    signal = np.where(labels, weights, 0.0)
    background = weights - signal  # exact: each event is one or the other
    np.cumsum(signal, out=signal)
    np.cumsum(background, out=background)
    count = np.arange(1, s.size + 1)
    last = np.append(sorted_score[1:] != sorted_score[:-1], True)
    if not last.all():
        sorted_score, signal, background, count = (a[last] for a in (sorted_score, signal, background, count))
    defined = (signal >= 0.0) & (background >= 0.0)
    if defined.all():
        value = raw_ams(signal, background, b_reg)
    else:
        value = np.full(signal.size, np.nan)
        value[defined] = raw_ams(signal[defined], background[defined], b_reg)
    return AMSCurve(sorted_score, signal, background, value, float(b_reg), count, labels, weights)


def descending_order(score: Floats) -> tuple[Ints, Floats]:
    """Return the stable order (n,) of descending scores, which must not be NaN, and the scores in that order.

    Tied scores keep their order, so that sums of their weights do not depend on how this machine sorts.
    """
    ordered = -score
    order = np.argsort(ordered)
    np.take(score, order, out=ordered, mode="clip")  # the default mode would fill another array first
    repeated = np.append(False, ordered[1:] == ordered[:-1])
    if repeated.any():  # sorting the positions within ties is faster than numpy's stable sort
        at = np.flatnonzero(repeated | np.append(repeated[1:], False))
        tie = np.cumsum(~repeated[at]) * score.size
        order[at] = np.sort(tie + order[at]) - tie
        ordered = score[order]  # -0.0 and 0.0 are tied
    return order, ordered
