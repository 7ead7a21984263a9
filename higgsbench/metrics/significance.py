"""Expected discovery significance with uncertain backgrounds, and the binning of a score that maximises it.

The background is measured in a control region: Poisson(n | s + b) Poisson(m | tau b) with tau = b / sigma_b^2. The
Asimov value of the profile likelihood ratio is equation (20) of G. Cowan, "Discovery sensitivity for a counting
experiment with background uncertainty" (2012); without uncertainty it is equation (97) of Cowan, Cranmer, Gross,
Vitells, Eur. Phys. J. C 71 (2011) 1554.

Splitting a bin never lowers sum Z_i^2. Without a minimum content the best binning would therefore have one bin per
event, and its significance would be a fluctuation. So every bin must hold enough expected and enough simulated
background events.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from higgsbench.errors import MetricError
from higgsbench.metrics.ams import HALF_SQUARE, SERIES_BELOW, horner
from higgsbench.metrics.weights import checked_events, checked_labels, checked_weights, not_negative

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from higgsbench.metrics.weights import Bools, Floats, Ints


def _curvature(x: Floats) -> Floats:
    """Return ((1 + x) ln(1 + x) - x) / x^2 for x >= -1, without cancellation: 1/2 at 0, 1 at -1."""
    small = np.abs(x) < SERIES_BELOW
    out = horner(np.where(small, x, 0.0), HALF_SQUARE)
    y = x[~small]
    log = np.log1p(np.maximum(y, np.nextafter(-1.0, 0.0)))
    out[~small] = ((1.0 + y) * log - y) / y / y  # y**2 could overflow
    return out


def asimov_significance(s: ArrayLike, b: ArrayLike, sigma_b: ArrayLike = 0.0, *, relative: bool = False) -> Floats:
    """Return the median discovery significance expected for s signal over b +- sigma_b background events.

    Z = sqrt(2 [(s + b) ln((s + b)(b + v) / (b^2 + (s + b) v)) - (b^2 / v) ln(1 + v s / (b (b + v)))]) with
    v = sigma_b^2. Computed as a sum of two positive terms, so that nothing cancels: with k = v / (v + b) the
    conditional background is b + k s, and Z^2 = 2 s^2 (1 - k) [(1 - k) h(x) + k h(y)] / (b + k s), h the curvature of
    the Poisson log-likelihood, x = s (1 - k) / (b + k s), y = -k s / (b + k s).

    Args:
        s: expected signal, any shape.
        b: expected background; broadcasts.
        sigma_b: standard deviation of the background estimate, in events, or as a share of b.
        relative: whether `sigma_b` is a share of b.

    Returns:
        Array of the broadcast shape, in standard deviations; 0 without signal. With b = 0 it is infinite if sigma_b is
        0 too (only signal is expected) and 0 otherwise (the limit b -> 0: all of s could be background).

    Raises:
        MetricError: if an input is negative, NaN or infinite.
    """
    arrays = (not_negative(s, "s"), not_negative(b, "b"), not_negative(sigma_b, "sigma_b"))
    s_, b_, sigma = (a.astype(np.float64) for a in np.broadcast_arrays(*arrays))
    if relative:
        sigma = sigma * b_
    root = np.sqrt(b_)
    length = np.hypot(sigma, root)
    known = np.divide(root, length, out=np.ones_like(length), where=length > 0.0) ** 2  # 1 - k
    loose = np.divide(sigma, length, out=np.zeros_like(length), where=length > 0.0) ** 2  # k
    expected = b_ + loose * s_
    ok = expected > 0.0
    x = np.divide(known * s_, expected, out=np.zeros_like(expected), where=ok)
    y = np.divide(-loose * s_, expected, out=np.zeros_like(expected), where=ok)
    inner = known * _curvature(x) + loose * _curvature(y)
    z = np.sqrt(2.0 * s_) * np.sqrt(x * inner)  # in this order nothing overflows
    out: Floats = np.where(ok, z, np.where(s_ > 0.0, np.inf, 0.0))
    return out


def combined_significance(s: ArrayLike, b: ArrayLike, sigma_b: ArrayLike = 0.0, *, relative: bool = False) -> float:
    """Return the combined significance of independent bins, sqrt(sum Z_i^2); arguments as in `asimov_significance`.

    Exact for known backgrounds, where the Asimov likelihood ratios of the bins multiply (Cowan et al. 2011, section 4).
    With sigma_b, the uncertainties of the bins are treated as independent; one normalisation shared by all bins
    needs a fit (see `higgsbench stats --workspace`).
    """
    return float(np.sqrt(np.sum(asimov_significance(s, b, sigma_b, relative=relative) ** 2)))


_CANDIDATES = 160


@dataclass(frozen=True)
class BinningRules:
    """Conditions on a binning.

    Attributes:
        max_bins: largest number of bins.
        min_background: minimum expected background per bin, in events.
        min_effective: minimum effective number of simulated background events per bin, (sum w)^2 / sum w^2.
        sigma_b: uncertainty of the background as a share of it, in every bin.

    Raises:
        MetricError: if a number is out of range.
    """

    max_bins: int = 10
    min_background: float = 10.0
    min_effective: float = 25.0
    sigma_b: float = 0.0

    def __post_init__(self) -> None:
        if self.max_bins < 1:
            raise MetricError(f"a binning needs at least one bin, not {self.max_bins}")
        for name in ("min_background", "min_effective", "sigma_b"):
            not_negative(getattr(self, name), name)


@dataclass(frozen=True)
class BinnedSums:
    """Sums (k,) of signal and background weights per bin, background-like bins first, and of their squares."""

    s: Floats
    b: Floats
    s_variance: Floats
    b_variance: Floats


def bin_sums(y_true: ArrayLike, bin_index: Ints, sample_weight: ArrayLike | None, bins: int) -> BinnedSums:
    """Sum weights and squared weights per class and bin; `bin_index` (n,) is from 0 to bins - 1."""
    y = checked_labels(y_true)
    w = checked_weights(sample_weight, y.size)
    signal = np.where(y, w, 0.0)
    background = np.where(y, 0.0, w)
    parts = [np.bincount(bin_index, v, bins).astype(np.float64) for v in (signal, background, signal**2, background**2)]
    return BinnedSums(*parts)


def _candidates(y: Bools, score: Floats, w: Floats) -> tuple[Floats, BinnedSums]:
    """Lower edges of fine bins of equal signal, and their content; the first edge is -inf."""
    order = np.argsort(score[y], kind="stable")
    running = np.cumsum(w[y][order])
    wanted = running[-1] * np.arange(1, _CANDIDATES) / _CANDIDATES
    at = np.minimum(np.searchsorted(running, wanted), running.size - 1)
    edges = np.concatenate([[-np.inf], np.unique(score[y][order][at])])
    fine = np.searchsorted(edges, score, side="right") - 1
    return edges, bin_sums(y, fine, w, edges.size)


def _interval_values(sums: BinnedSums, rules: BinningRules) -> Floats:
    """(m + 1, m + 1) Z^2 of the bin made of fine bins i to j - 1; -inf where it holds too little."""
    total = [np.concatenate([[0.0], np.cumsum(v)]) for v in (sums.s, sums.b, sums.b_variance)]
    s, b, v = (t[None, :] - t[:, None] for t in total)
    upper = np.triu(np.ones(s.shape, dtype=np.bool_), 1)
    enough = upper & (b >= rules.min_background) & (b**2 >= rules.min_effective * v) & (b > 0.0) & (s >= 0.0)
    out = np.full(s.shape, -np.inf)
    out[enough] = asimov_significance(s[enough], b[enough], rules.sigma_b, relative=True) ** 2
    return out


def optimal_edges(
    y_true: ArrayLike, score: ArrayLike, sample_weight: ArrayLike | None, rules: BinningRules
) -> list[Floats]:
    """For every number of bins, find the edges with the highest sqrt(sum Z_i^2).

    The edges come from 160 fine bins of equal expected signal; among those the answer is exact (dynamic programming).

    Any increasing transform of the score gives the same bins.

    Returns:
        Entry k - 1 holds the (k,) ascending lower edges of the best k bins, the first -inf: event i is in bin
        searchsorted(edges, score, side="right") - 1. As many entries as there are feasible numbers of bins.

    Raises:
        MetricError: if there is no signal, all events are too few for one bin, or the input is malformed.
    """
    y, score_, w = checked_events(y_true, score, sample_weight)
    if not y.any() or not np.sum(w[y]) > 0.0:
        raise MetricError("a binning needs signal events")
    edges, sums = _candidates(y, score_, w)
    value = _interval_values(sums, rules)
    best = value[0].copy()  # best value of the fine bins 0 to j - 1 in one bin
    if not np.isfinite(best[-1]):
        raise MetricError(
            f"all events together are too few for one bin of {rules.min_background:g} expected and "
            f"{rules.min_effective:g} effective background events"
        )
    found, steps = [edges[:1]], []
    for _ in range(1, rules.max_bins):
        total = best[:, None] + value
        previous = np.argmax(total, axis=0)
        best = np.take_along_axis(total, previous[None, :], axis=0)[0]
        if not np.isfinite(best[-1]):
            break
        steps.append(previous)
        starts = [edges.size]
        for step in reversed(steps):  # trace the best edges back through the table
            starts.append(int(step[starts[-1]]))
        found.append(edges[[0, *reversed(starts[1:])]])
    return found


ONE_SIGMA = 0.6827
"""Share of a normal distribution within one standard deviation, as the challenge writes it."""


def interval_score(width: float, coverage: float, experiments: int) -> float:
    """Return the score of 68% intervals in the FAIR Universe HiggsML uncertainty challenge; higher is better.

    -ln((w + 0.001) f(c)) with w the mean width and c the coverage; f is 1 within two standard errors sigma of 0.6827,
    1 + d^4 below and 1 + d^3 above, where d is the further distance in units of sigma. Source: W. Bhimji et al.,
    arXiv:2410.02867, and the challenge's program (github.com/FAIR-Universe/HEP-Challenge, scoring_program/score.py).

    Args:
        width: mean width of the intervals.
        coverage: share of them that contain the truth.
        experiments: number of pseudo-experiments.

    Example:
        >>> round(interval_score(0.499, 0.68, 200), 4)
        0.6931
    """
    sigma = np.sqrt(ONE_SIGMA * (1.0 - ONE_SIGMA) / experiments)
    below, above = ONE_SIGMA - 2.0 * sigma - coverage, coverage - ONE_SIGMA - 2.0 * sigma
    penalty = 1.0 + (max(below, 0.0) / sigma) ** 4 + (max(above, 0.0) / sigma) ** 3
    return float(-np.log((width + 1e-3) * penalty))
