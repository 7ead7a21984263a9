"""The metrics: estimates with event-level influence values, their comparison, and one record for each metric.

An `Estimate` carries, besides its value, what each event contributes to its deviation (the empirical influence
function, also called infinitesimal jackknife; Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter
21). The variance of an estimate is the sum of squares; the variance of a difference of two estimates on the same
events is the sum of squared differences, which is what makes a comparison paired.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from higgsbench.errors import MetricError
from higgsbench.metrics.ams import ams, ams_gradient, raw_ams
from higgsbench.metrics.weights import checked_events, checked_labels, checked_selection, checked_weights
from higgsbench.schema import B_REG

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from higgsbench.metrics.weights import Bools, Floats


@dataclass(frozen=True)
class Value:
    """A number and its standard error from the finite number of simulated events."""

    value: float
    se: float


@dataclass(frozen=True)
class Estimate:
    """The value of a metric with its influence values (n,); the sum of their squares is the variance of `value`.

    A mean over repeats has the value of each in `repeats`.
    """

    value: float
    influence: Floats
    repeats: tuple[float, ...] = ()

    @property
    def se(self) -> float:
        """Standard error from the finite number of events."""
        return float(np.sqrt(np.sum(self.influence**2)))

    def without_events(self) -> Estimate:
        """Return the value and standard error without the influence values, which only paired differences need."""
        return replace(self, influence=np.array([self.se]))


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
    values = tuple(e.value for e in estimates)
    return Estimate(float(np.mean(values)), np.mean([e.influence for e in estimates], axis=0), values)


def selected_sums(y: Bools, selected: Bools, w: Floats) -> tuple[float, float]:
    """Return the summed weights (s, b) of selected signal and background."""
    return float(np.sum(w[selected & y])), float(np.sum(w[selected & ~y]))


def selected_share(score: Floats, share: float) -> Bools:
    """Select about this share of the events, those with the highest scores; never cut inside tied scores."""
    last = score.size - max(1, round(share * score.size))
    selected: Bools = score >= np.partition(score, last)[last]
    return selected


def ams_estimate(
    y_true: ArrayLike, selected: ArrayLike, sample_weight: ArrayLike | None, b_reg: float = B_REG
) -> tuple[Estimate, float, float]:
    """Return the AMS of a fixed selection (n,), selected signal and selected background; see `ams_scan`.

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


def roc_auc(y_true: ArrayLike, score: ArrayLike, sample_weight: ArrayLike | None) -> Estimate:
    """Return the weighted area under the ROC curve, ties counted half.

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
    loss = np.where(w != 0.0, np.logaddexp(0.0, np.where(y, -f, f)), 0.0)  # an event of zero weight adds nothing
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


def ks_distance(x: Floats, x_weight: Floats, y: Floats, y_weight: Floats) -> float:
    """Return the largest distance between the cumulative distributions of weighted samples, (n,) and (m,) values."""
    totals = float(np.sum(x_weight)), float(np.sum(y_weight))
    if not min(totals) > 0.0:
        raise MetricError(f"a Kolmogorov-Smirnov distance needs positive sums of weights, got {totals}")
    values, place = np.unique(np.concatenate([x, y]), return_inverse=True)
    share = np.concatenate([x_weight / totals[0], -y_weight / totals[1]])
    return float(np.max(np.abs(np.cumsum(np.bincount(place, share, minlength=values.size)))))


def ks_p_value(distance: float, effective: float, other: float) -> float:
    """Return the asymptotic p-value of a Kolmogorov-Smirnov test (Stephens' correction for finite samples).

    Weighted samples count with their effective numbers of events, which is an approximation.
    """
    from scipy.special import kolmogorov

    n = math.sqrt(effective * other / (effective + other))
    return float(kolmogorov((n + 0.12 + 0.11 / n) * distance))


def chi2_of_shapes(a: Floats, a_variance: Floats, b: Floats, b_variance: Floats) -> tuple[float, int, float]:
    """Return chi-squared, degrees of freedom and p-value from comparing two weighted histograms' shapes in equal bins.

    Bins in which neither has events do not count; the common normalisation takes one degree of freedom. The sum
    follows a chi-squared distribution if bins hold many events (Gagunashvili, Nucl. Instrum. Meth. A 614 (2010) 287).
    With no degrees of freedom the result is (0.0, 0, 1.0). Histograms are sums (k,) of weights, variances sums of their
    squares.
    """
    from scipy.special import chdtrc

    totals = float(np.sum(a)), float(np.sum(b))
    if not min(totals) > 0.0:
        raise MetricError(f"a chi-squared of shapes needs histograms with positive sums, got {totals}")
    variance = a_variance / totals[0] ** 2 + b_variance / totals[1] ** 2
    used = variance > 0.0
    freedom = int(used.sum()) - 1
    if freedom < 1:
        return 0.0, 0, 1.0
    chi2 = float(np.sum((a / totals[0] - b / totals[1])[used] ** 2 / variance[used]))
    return chi2, freedom, float(chdtrc(freedom, chi2))


@dataclass(frozen=True)
class Scored:
    """Events with their log-odds and evaluation weights, (n,) each: the input of every metric.

    `selected` is the honest selection, the cut of each fold chosen on the other folds; None where no metric needs it.
    `spectators` are values by the name of their column, NaN where missing.
    """

    y: Bools
    score: Floats
    weight: Floats
    b_reg: float
    selected: Bools | None = None
    spectators: Mapping[str, Floats] = field(default_factory=dict)


def suffixed(key: str, suffix: str) -> str:
    """Return the key of a number that belongs to another one, e.g. `auc_se`, or `efficiency_se:W` of `efficiency:W`."""
    quantity, colon, of = key.partition(":")
    return f"{quantity}_{suffix}{colon}{of}"


@dataclass(frozen=True)
class Metric:
    """One metric: a record in `METRICS` makes it appear in rows, leaderboards, comparisons, reports and tuning.

    Attributes:
        name: name in comparisons and tuning.
        key: name in rows and leaderboards, where the standard error is `KEY_se` (`suffixed`).
        heading: heading in tables; leaderboards use `column_heading` where it is set.
        help: what it is, in one line.
        estimate: the value with its influence, from scored events and their evaluation weights.
        digits: decimals shown, after multiplication by `scale`.
        lower_is_better: whether a lower value is better.
        largest: the largest possible value.
        headline: whether rows carry it and it can be tuned for; others appear in comparisons only.
        priority: a narrow terminal drops the columns with the highest numbers first and keeps those with 0; the
            column of differences to the first row has `difference_priority`.
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
    largest: float = math.inf
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

    def number(self, value: float, sign: str = "") -> str:
        """Write a value for people, with + before positive numbers where `sign` says so; ? where it is not finite."""
        return f"{self.scale * value:{sign}.{self.digits}f}" if math.isfinite(value) else "?"

    def shown(self, value: float, se: float, sign: str = "") -> str:
        """Write a value and its standard error; see `number`."""
        return f"{self.number(value, sign)} ± {self.number(se)}"


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
        lambda events: roc_auc(events.y, events.score, events.weight), digits=4, largest=1.0, priority=1,
        of_bins=binned_auc,
    ),
    Metric(
        "log_loss", "log_loss", "log-loss x10³", "Weighted logistic loss of the log-odds, nats per unit of weight.",
        lambda events: log_loss(events.y, events.score, events.weight), scale=1e3, lower_is_better=True,
    ),
)  # fmt: skip
METRICS: dict[str, Metric] = {record.name: record for record in _RECORDS}
"""All metrics by name."""
