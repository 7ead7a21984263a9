"""The AMS as a function of the cut: one sort, cumulative sums, the whole curve with its error band."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from higgsbench.errors import MetricError
from higgsbench.metrics._arrays import checked_labels, checked_scores, checked_weights
from higgsbench.metrics.ams import ams_gradient, raw_ams
from higgsbench.metrics.order import descending_order
from higgsbench.schema import B_REG

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["AMSCurve", "ams_scan"]

_CHUNK = 1 << 15


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
