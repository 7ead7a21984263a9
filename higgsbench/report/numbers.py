"""What the figures of a report show, as numbers; arrays in, arrays out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from higgsbench.metrics.agreement import chi2_of_shapes, ks_distance, ks_p_value
from higgsbench.metrics.scan import ams_scan
from higgsbench.metrics.weights import effective_sample_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from higgsbench.report.stored import Scores

__all__ = ["Agreement", "Curve", "Efficiency", "Reliability", "agreement", "ams_curve", "correlation", "efficiency",
           "histogram", "reliability", "score_edges"]  # fmt: skip

_POINTS = 240


@dataclass(frozen=True)
class Curve:
    """AMS against the selected share of the events, mean over repeats.

    Attributes:
        fraction: (k,) selected share.
        ams: (k,) AMS.
        se: (k,) standard error at fixed cut.
        best: (selected share, AMS) of the best cut on these very scores.
    """

    fraction: NDArray[np.float64]
    ams: NDArray[np.float64]
    se: NDArray[np.float64]
    best: tuple[float, float]


def ams_curve(scores: Scores, name: str, b_reg: float, upper: float) -> Curve:
    """Scan the AMS of a row.

    Args:
        scores: out-of-fold scores.
        name: the row.
        b_reg: regularisation of the background.
        upper: largest selected share.
    """
    n = scores.y.size
    at = np.linspace(max(5.0 / n, 1e-3), upper, _POINTS)
    values, errors, best = [], [], []
    for score in scores.by_row[name]:
        curve = ams_scan(scores.y, score, scores.weight, b_reg)
        nearest = np.minimum(np.searchsorted(curve.fraction, at), len(curve) - 1)
        values.append(curve.ams[nearest])
        errors.append(curve.se[nearest])
        top = int(np.nanargmax(curve.ams))
        best.append((float(curve.fraction[top]), float(curve.ams[top])))
    share, value = np.mean(best, axis=0)
    return Curve(at, np.mean(values, axis=0), np.mean(errors, axis=0), (float(share), float(value)))


def score_edges(scores: Sequence[NDArray[np.float64]], bins: int = 36) -> NDArray[np.float64]:
    """(bins + 1,) edges that hold all but the outermost 0.1% of the scores on either side."""
    together = np.concatenate([s.ravel() for s in scores])
    low, high = np.quantile(together, [0.001, 0.999])
    if not low < high:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, bins + 1)


def histogram(
    values: NDArray[np.float64], weight: NDArray[np.float64], edges: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums of weights and of squared weights by bin; what lies outside counts in the outermost bins.

    Args:
        values: (repeats, n) or (n,) values.
        weight: (n,) weights; every repeat gets its equal part of them.
        edges: (k + 1,) bin edges.

    Returns:
        (k,) sums and (k,) variances. Repeats share their events, so the variance is the mean over repeats.
    """
    rows = np.atleast_2d(values)
    sums, squares = np.zeros(edges.size - 1), np.zeros(edges.size - 1)
    for row in rows:
        place = np.clip(np.searchsorted(edges, row, side="right") - 1, 0, edges.size - 2)
        sums += np.bincount(place, weight, minlength=edges.size - 1) / len(rows)
        squares += np.bincount(place, weight**2, minlength=edges.size - 1) / len(rows)
    return sums, squares


@dataclass(frozen=True)
class Agreement:
    """How well the scores of one class agree between two samples.

    Attributes:
        ks: weighted Kolmogorov-Smirnov distance.
        ks_p: its p-value with effective numbers of events (approximate).
        chi2: chi-squared of the binned shapes.
        freedom: degrees of freedom.
        chi2_p: its p-value.
    """

    ks: float
    ks_p: float
    chi2: float
    freedom: int
    chi2_p: float


def agreement(a: Scores, b: Scores, name: str, *, of_signal: bool) -> Agreement:
    """Compare the scores of one class in two samples; of several repeats the first serves."""
    parts = []
    for sample in (a, b):
        members = sample.y == of_signal
        parts.append((sample.by_row[name][0][members], sample.weight[members]))
    (x, wx), (z, wz) = parts
    distance = ks_distance(x, wx, z, wz)
    # Bins of equal content: chi-squared wants many events in each.
    inner = np.unique(np.quantile(np.concatenate([x, z]), np.linspace(0.0, 1.0, 21)[1:-1]))
    edges = np.concatenate([[-np.inf], inner, [np.inf]])
    chi2, freedom, p = chi2_of_shapes(*histogram(x, wx, edges), *histogram(z, wz, edges))
    return Agreement(
        distance, ks_p_value(distance, effective_sample_size(wx), effective_sample_size(wz)), chi2, freedom, p
    )


@dataclass(frozen=True)
class Efficiency:
    """Background efficiency against signal efficiency.

    Attributes:
        signal: (k,) signal efficiency, ascending.
        background: (k,) weighted background efficiency there.
        events: (k,) effective number of selected background events there.
    """

    signal: NDArray[np.float64]
    background: NDArray[np.float64]
    events: NDArray[np.float64]


def efficiency(scores: Scores, name: str) -> Efficiency:
    """Weighted ROC curve at even signal efficiencies, mean over repeats."""
    at = np.linspace(0.005, 1.0, 200)
    background, effective = [], []
    for score in scores.by_row[name]:
        curve = ams_scan(scores.y, score, scores.weight)
        share = curve.s / curve.s[-1]
        place = np.minimum(np.searchsorted(share, at - 1e-12), len(curve) - 1)
        squares = np.cumsum(np.where(curve.sorted_labels, 0.0, curve.sorted_weights**2))[curve.count - 1]
        background.append((curve.b / curve.b[-1])[place])
        with np.errstate(invalid="ignore", divide="ignore"):
            effective.append(np.where(squares > 0.0, curve.b**2 / squares, 0.0)[place])
    return Efficiency(at, np.mean(background, axis=0), np.mean(effective, axis=0))


@dataclass(frozen=True)
class Reliability:
    """Log-odds that were predicted against those that are found, in bins of the prediction.

    Attributes:
        predicted: (k,) logit of the mean predicted probability.
        found: (k,) ln(s / b) of the bin's sums of weights.
        se: (k,) standard error of `found` (delta method).
    """

    predicted: NDArray[np.float64]
    found: NDArray[np.float64]
    se: NDArray[np.float64]


def reliability(scores: Scores, name: str, bins: int = 12) -> Reliability:
    """Bin events by predicted log-odds so that every bin holds an equal share of both classes' weight together.

    Bins without events of both classes have no log-odds and are left out.
    """
    y, weight, values = scores.y, scores.weight, scores.by_row[name]
    half = np.where(y, weight / np.sum(weight[y]), weight / np.sum(weight[~y]))
    order = np.argsort(values[0], kind="stable")
    cumulative = np.cumsum(half[order]) / np.sum(half)
    cuts = np.searchsorted(cumulative, np.linspace(0.0, 1.0, bins + 1)[1:-1])
    edges = np.concatenate([[-np.inf], np.unique(values[0][order][np.minimum(cuts, y.size - 1)]), [np.inf]])
    probability = np.mean([_binned_mean(score, weight, edges) for score in values], axis=0)
    (s, s2), (b, b2) = (histogram(values[:, m], weight[m], edges) for m in (y, ~y))
    used = (s > 0.0) & (b > 0.0)
    p = probability[used]
    se = np.sqrt(s2[used] / s[used] ** 2 + b2[used] / b[used] ** 2)
    return Reliability(np.log(p) - np.log1p(-p), np.log(s[used] / b[used]), se)


def _binned_mean(
    score: NDArray[np.float64], weight: NDArray[np.float64], edges: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Mean predicted probability of signal by bin, (k,)."""
    probability = np.exp(-np.logaddexp(0.0, -score))
    total, _ = histogram(score, weight, edges)
    part, _ = histogram(score, weight * probability, edges)
    return np.divide(part, total, out=np.full_like(part, np.nan), where=total > 0.0)


def correlation(scores: Scores, names: Sequence[str]) -> NDArray[np.float64]:
    """(m, m) weighted correlations of scores inside a class, mean of both classes.

    Inside a class, because what separates the classes would make any two good models look alike.
    """
    matrix = np.zeros((len(names), len(names)))
    for members in (scores.y, ~scores.y):
        weight = scores.weight[members] / np.sum(scores.weight[members])
        values = np.stack([scores.by_row[name][0][members] for name in names])
        centred = values - (values @ weight)[:, None]
        covariance = (centred * weight) @ centred.T
        spread = np.sqrt(np.diag(covariance))
        with np.errstate(invalid="ignore", divide="ignore"):
            matrix += 0.5 * covariance / np.outer(spread, spread)
    return matrix
