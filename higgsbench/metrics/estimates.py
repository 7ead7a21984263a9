"""The metrics: estimates with event-level influence values, and one record for each metric that tables show.

An `Estimate` carries, besides its value, what each event contributes to its deviation (the empirical influence
function, also called infinitesimal jackknife; Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter
21). The variance of an estimate is the sum of squares; the variance of a difference of two estimates on the same
events is the sum of squared differences, which is what makes a comparison paired.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from higgsbench.errors import MetricError
from higgsbench.metrics.ams import ams, ams_gradient, raw_ams
from higgsbench.metrics.weights import checked_events, checked_labels, checked_selection, checked_weights
from higgsbench.schema import B_REG

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from higgsbench.metrics.weights import Bools, Floats

_STEPS = 1 << 16
_AT_ONCE = 1 << 18
"""Numbers drawn at a time; even, because numpy takes two numbers from one word, so that parts equal the whole."""


@functools.cache
def _numbers() -> NDArray[np.uint8]:
    """Return the Poisson(1) number of each of 65,536 equally likely integers; the largest is 7."""
    below = np.cumsum([math.exp(-1.0) / math.factorial(k) for k in range(8)])
    edges = np.append(np.round(below[:-1] * _STEPS), _STEPS)
    return np.searchsorted(edges, np.arange(_STEPS), side="right").astype(np.uint8)


def poisson_counts(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Draw independent Poisson(1) numbers, the large-sample form of resampling with replacement.

    A table of 65,536 entries is several times faster than `Generator.poisson`. Its mean is right to 2e-5 and its
    variance to 3e-4, far below the uncertainty of an error from any affordable number of replicas.
    """
    out = np.empty(math.prod(shape), dtype=np.uint8)
    # In parts, because numpy widens the indices to 8 bytes: all at once would take 11 bytes per number.
    for first in range(0, out.size, _AT_ONCE):
        part = out[first : first + _AT_ONCE]
        np.take(_numbers(), rng.integers(0, _STEPS, size=part.size, dtype=np.uint16), out=part)
    return out.reshape(shape)


@dataclass(frozen=True)
class Estimate:
    """The value of a metric with its influence values (n,), whose sum of squares is the variance of `value`."""

    value: float
    influence: Floats

    @property
    def se(self) -> float:
        """Standard error from the finite number of events."""
        return float(np.sqrt(np.sum(self.influence**2)))

    def without_events(self) -> Estimate:
        """Return value and standard error without the events behind them, which only paired differences need."""
        return Estimate(self.value, np.array([self.se]))


def paired_difference(a: Estimate, b: Estimate) -> tuple[float, float]:
    """Return a - b and its paired standard error; both must come from the same events."""
    if a.influence.shape != b.influence.shape:
        raise MetricError(f"a paired difference needs the same events: {a.influence.size} against {b.influence.size}")
    with np.errstate(invalid="ignore"):  # two infinite losses have no difference
        deviation = a.influence - b.influence
    return a.value - b.value, float(np.sqrt(np.sum(deviation**2)))


def mean_estimate(estimates: Sequence[Estimate]) -> Estimate:
    """Average estimates on the same events, such as the repeats of a cross-validation.

    Repeats share their events, so the influence values are averaged event by event and the error does not shrink as if
    the repeats were independent samples.
    """
    if not estimates:
        raise MetricError("no estimates to average")
    return Estimate(float(np.mean([e.value for e in estimates])), np.mean([e.influence for e in estimates], axis=0))


def selected_sums(y: Bools, selected: Bools, w: Floats) -> tuple[float, float]:
    """Return the summed weights (s, b) of selected signal and background."""
    return float(np.sum(w[selected & y])), float(np.sum(w[selected & ~y]))


def selected_share(score: Floats, share: float) -> Bools:
    """Select the events of the highest scores, about a share of all; never cut inside tied scores."""
    last = score.size - max(1, round(share * score.size))
    selected: Bools = score >= np.partition(score, last)[last]
    return selected


def ams_estimate(
    y_true: ArrayLike, selected: ArrayLike, sample_weight: ArrayLike | None, b_reg: float = B_REG
) -> tuple[Estimate, float, float]:
    """Return the AMS of a fixed selection (n,), selected signal and selected background; see `ams_scan` for the rest.

    Delta method at fixed class totals: s = N_s sum(w selected) / sum(w) over signal moves by w (selected - s / N_s) per
    event, b alike, and the AMS by its gradient. The cut is taken as fixed.

    Raises:
        MetricError: for weights or labels that cannot be used, or negative s or b.
    """
    y = checked_labels(y_true)
    w = checked_weights(sample_weight, y.size)
    keep = checked_selection(selected, y.size)
    s, b = selected_sums(y, keep, w)
    value = ams(s, b, b_reg)
    total_s, total_b = float(np.sum(w[y])), float(np.sum(w[~y]))
    by_s, by_b = (0.0, 0.0) if b + b_reg == 0.0 else (float(g[0]) for g in ams_gradient(s, b, b_reg))
    share_s, share_b = s / total_s if total_s else 0.0, b / total_b if total_b else 0.0
    influence = w * np.where(y, by_s * (keep - share_s), by_b * (keep - share_b))
    return Estimate(value, influence), s, b


def softplus(x: Floats) -> Floats:
    """Return ln(1 + exp(x)) without overflow."""
    return np.logaddexp(0.0, x)


def roc_auc(y_true: ArrayLike, score: ArrayLike, sample_weight: ArrayLike | None) -> Estimate:
    """Return the weighted area under the ROC curve, ties counted half, with its influence values.

    The influence of an event is its weight share times the deviation of its placement value from the AUC (DeLong,
    DeLong and Clarke-Pearson, Biometrics 44 (1988) 837, in its weighted form).

    Args:
        y_true: (n,) truth, 1 or True for signal.
        score: (n,) score that grows with signal likeness.
        sample_weight: (n,) evaluation weights; only their ratios within a class matter.

    Raises:
        MetricError: if a class is absent or its weights sum to zero, or the input is malformed.
    """
    y, score_, w = checked_events(y_true, score, sample_weight)
    total_s, total_b = float(np.sum(w[y])), float(np.sum(w[~y]))
    if total_s == 0.0 or total_b == 0.0:
        raise MetricError("the ROC AUC needs signal and background with a non-zero sum of weights")
    distinct, place = np.unique(score_, return_inverse=True)
    per_s = np.bincount(place[y], weights=w[y], minlength=distinct.size)
    per_b = np.bincount(place[~y], weights=w[~y], minlength=distinct.size)
    below_b = np.cumsum(per_b) - 0.5 * per_b  # background below each distinct score, ties counted half
    above_s = total_s - np.cumsum(per_s) + 0.5 * per_s
    value = float(np.sum(per_s * below_b)) / (total_s * total_b)
    placement = np.where(y, below_b[place] / total_b, above_s[place] / total_s)
    return Estimate(value, (placement - value) * w / np.where(y, total_s, total_b))


def log_loss(y_true: ArrayLike, log_odds: ArrayLike, sample_weight: ArrayLike | None) -> Estimate:
    """Return the weighted logistic loss of log-odds, per unit of weight, in nats.

    With evaluation weights and log-odds in physical normalisation this is the proper scoring rule of the physical
    posterior ln(N_s p(x|s) / N_b p(x|b)). The influence holds the class totals fixed.

    Args:
        y_true: (n,) truth.
        log_odds: (n,) log-odds; an infinity on the wrong side makes the loss infinite.
        sample_weight: (n,) evaluation weights.

    Raises:
        MetricError: if the weights do not sum to a positive number or the input is malformed.
    """
    y, f, w = checked_events(y_true, log_odds, sample_weight)
    total = float(np.sum(w))
    if not total > 0.0:
        raise MetricError(f"the log-loss needs a positive sum of weights, got {total}")
    loss = np.where(w != 0.0, softplus(np.where(y, -f, f)), 0.0)  # an event of zero weight adds nothing
    value = float(np.sum(w * loss)) / total
    if not np.isfinite(value):
        return Estimate(value, np.where(w != 0.0, np.inf, 0.0))
    deviation = np.zeros_like(loss)
    for members in (y, ~y):
        weight = float(np.sum(w[members]))
        if weight != 0.0:
            deviation[members] = loss[members] - float(np.sum(w[members] * loss[members])) / weight
    return Estimate(value, w * deviation / total)


def binned_auc(sums: Floats) -> Floats:
    """Return the AUC (replicas,) of sums (replicas, class, bin), best bin first; events that share a bin count half."""
    background, signal = np.moveaxis(sums, 1, 0)
    below = background.sum(axis=1, keepdims=True) - np.cumsum(background, axis=1) + 0.5 * background
    norm = signal.sum(axis=1) * background.sum(axis=1)
    halves = np.full(norm.shape, 0.5)
    auc: Floats = np.divide(np.sum(signal * below, axis=1), norm, out=halves, where=norm > 0.0)
    return auc


@dataclass(frozen=True)
class Scored:
    """Events with their log-odds and evaluation weights, (n,) each: the input of every metric.

    `selected` is the honest selection, the cut of each fold chosen on the other folds; None where no metric needs it.
    """

    y: Bools
    score: Floats
    weight: Floats
    b_reg: float
    selected: Bools | None = None


@dataclass(frozen=True)
class Metric:
    """One metric: a record in `METRICS` makes it appear in rows, leaderboards, comparisons, reports and tuning.

    Attributes:
        name: name in comparisons and tuning.
        key: name in rows and leaderboards, where the standard error is `KEY_se`.
        heading: heading in tables; leaderboards use `column_heading` where it is set.
        help: what it is, in one line.
        estimate: the value with its influence, from scored events and their evaluation weights.
        digits: decimals shown, after multiplication by `scale`.
        lower_is_better: whether a lower value is better.
        headline: whether rows carry it and it can be tuned for; others appear in comparisons only.
        priority: a narrow terminal drops the columns with the highest numbers first, and never 0; the column of
            differences to the first row has `difference_priority`.
        of_counts: for a metric at the honest cut, the value from selected signal, background and `b_reg` (arrays). The
            bootstrap chooses the cuts anew; the standard error includes this choice.
        of_bins: for a metric of the whole ranking, its bootstrap replicas from sums as in `binned_auc`. A metric
            without `of_counts` and `of_bins` has no paired differences in leaderboards.
    """

    name: str
    key: str
    heading: str
    help: str
    estimate: Callable[[Scored], Estimate]
    digits: int = 3
    scale: float = 1.0
    lower_is_better: bool = False
    headline: bool = True
    priority: int = 3
    difference_priority: int = 5
    column_heading: str = ""
    of_counts: Callable[[Floats, Floats, float], Floats] | None = None
    of_bins: Callable[[Floats], Floats] | None = None

    @property
    def needs_cut(self) -> bool:
        """Whether it is computed at the honest cut, which needs two folds."""
        return self.of_counts is not None

    @property
    def resampled(self) -> bool:
        """Whether the bootstrap provides replicas of it."""
        return self.of_counts is not None or self.of_bins is not None


def _ams_at_cut(events: Scored) -> Estimate:
    if events.selected is None:
        raise MetricError("the AMS needs a selection")
    return ams_estimate(events.y, events.selected, events.weight, events.b_reg)[0]


def _ams_at_share(percent: int) -> Metric:
    def estimate(events: Scored) -> Estimate:
        selected = selected_share(events.score, percent / 100)
        return ams_estimate(events.y, selected, events.weight, events.b_reg)[0]

    name, help_text = f"ams_{percent}", f"AMS of the {percent}% of the events with the highest scores."
    return Metric(name, name, f"AMS at {percent}%", help_text, estimate, headline=False)


_RECORDS = (
    Metric(
        "ams", "ams_cv", "AMS", "Cross-validated AMS: the cut of each fold chosen on the other folds, pooled.",
        _ams_at_cut, priority=0, difference_priority=1, column_heading="AMS cv", of_counts=raw_ams,
    ),
    *(_ams_at_share(percent) for percent in (5, 10, 15, 20)),
    Metric(
        "auc", "auc", "wAUC", "Weighted area under the ROC curve, ties counted half.",
        lambda events: roc_auc(events.y, events.score, events.weight), digits=4, priority=1, of_bins=binned_auc,
    ),
    Metric(
        "log_loss", "log_loss", "log-loss x10³", "Weighted logistic loss of the log-odds, nats per unit of weight.",
        lambda events: log_loss(events.y, events.score, events.weight), scale=1e3, lower_is_better=True,
    ),
)  # fmt: skip
METRICS: dict[str, Metric] = {record.name: record for record in _RECORDS}
"""All metrics by name."""
