"""One cut for the whole data set, chosen by a rule that is robust against spurious spikes of the AMS curve.

The raw maximum of an AMS curve tends to sit at a tight cut where a handful of background events happen to be absent.
The robust rules look at the error of the curve, or at the curve of slightly displaced events. A rule is one record with
two implementations: at event resolution for the numbers of a row, and in rank bins for the replicas of the bootstrap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np

from higgsbench.errors import ConfigError, MetricError
from higgsbench.metrics import measure_processes
from higgsbench.metrics.ams import AMSCurve, ams_gradient, ams_scan, raw_ams
from higgsbench.metrics.weights import evaluation_weights
from higgsbench.schema import B_REG

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from higgsbench.metrics import Processes, ProcessMetrics
    from higgsbench.metrics.weights import Bools, Floats, Ints

BINS = 250
"""Rank bins of the bootstrap; the cuts of a replica fall between bins."""

MAX_BACKGROUND_ERROR = 0.15
"""Robust rules skip cuts whose background has a larger relative standard error."""

_FINE_BINS = 1024


@dataclass(frozen=True)
class Truth:
    """The truth and the settings with which scores are evaluated.

    Attributes:
        y: (n,) truth.
        weight: (n,) evaluation weights at the reference totals.
        fold: (repeats, n) fold numbers.
        totals: reference totals (N_s, N_b).
        b_reg: regularisation of the background in the AMS.
        rule: name of the rule that chooses the cut.
        processes: physics process of each event, or None where it is not known.
        spectators: values (n,) of the spectators, NaN where missing, by name.
    """

    y: Bools
    weight: Floats
    fold: Ints
    totals: tuple[float, float]
    b_reg: float
    rule: str
    processes: Processes | None = None
    spectators: Mapping[str, Floats] = field(default_factory=dict)

    def at(self, positions: NDArray[np.intp]) -> Truth:
        """Return the truth of some events, in the given order, with unchanged weights."""
        processes = self.processes and self.processes.at(positions)
        y, weight, fold = self.y[positions], self.weight[positions], self.fold[:, positions]
        spectators = {name: values[positions] for name, values in self.spectators.items()}
        return replace(self, y=y, weight=weight, fold=fold, processes=processes, spectators=spectators)

    def measured(self, scores: Floats, selected: Bools) -> dict[str, ProcessMetrics]:
        """Measure each process in a selection (repeats, n); empty if the processes are not known."""
        return {} if self.processes is None else measure_processes(self.processes, scores, selected, self.weight)


def scale_to_totals(sums: Floats, totals: tuple[float, float]) -> Floats:
    """Return the factors (replicas, class, 1) that bring class sums (replicas, class, bin) to the reference totals."""
    total = sums.sum(axis=2, keepdims=True)
    wanted = np.array([[totals[1]], [totals[0]]])
    scale: Floats = np.divide(wanted, total, out=np.zeros_like(total), where=total > 0.0)
    return scale


class BinnedCurves:
    """AMS curves of bootstrap replicas at the borders of rank bins; `AMSCurve` is the same for single events.

    Args:
        first: (replicas, class, bin) sums of weights; background before signal, best bin first.
        second: (replicas, class, bin) sums of squared weights.
        truth: number of events, totals and regularisation.
    """

    def __init__(self, first: Floats, second: Floats, truth: Truth) -> None:
        scale = scale_to_totals(first, truth.totals)
        self.truth = truth
        self.content: Floats = first * scale
        self.selected: Floats = np.cumsum(self.content, axis=2)
        self._squares = second * scale**2

    def ams_of(self, selected: Floats) -> Floats:
        """Return the AMS (replicas, bin) of selected sums; -inf where it is not finite (b_reg = 0, no background)."""
        b, s = np.moveaxis(np.maximum(selected, 0.0), 1, 0)
        value = raw_ams(s.ravel(), b.ravel(), self.truth.b_reg).reshape(s.shape)
        return np.where(np.isfinite(value), value, -np.inf)

    @cached_property
    def ams(self) -> Floats:
        """AMS, shape (replicas, bin)."""
        return self.ams_of(self.selected)

    @cached_property
    def variance(self) -> Floats:
        """Variance of the selected sums at fixed class totals (see `AMSCurve`), shape (replicas, class, bin)."""
        square = np.cumsum(self._squares, axis=2)
        share = self.selected / np.array([[self.truth.totals[1]], [self.truth.totals[0]]])
        variance: Floats = np.maximum((1.0 - 2.0 * share) * square + share**2 * square[:, :, -1:], 0.0)
        return variance

    @property
    def se(self) -> Floats:
        """Standard error of the AMS at fixed cut, shape (replicas, bin)."""
        b, s = np.moveaxis(np.maximum(self.selected, 0.0), 1, 0)
        by_s, by_b = ams_gradient(s, b, max(self.truth.b_reg, 1e-12))
        error: Floats = np.sqrt(by_s**2 * self.variance[:, 1] + by_b**2 * self.variance[:, 0])
        return error

    @property
    def trusted(self) -> Bools:
        """Whether the error of the selected background is small enough to trust the cut; shape (replicas, bin)."""
        background = self.selected[:, 0]
        return (background > 0.0) & (np.sqrt(self.variance[:, 0]) <= MAX_BACKGROUND_ERROR * background)


@dataclass(frozen=True)
class CutRule:
    """One rule: a record in `CUT_RULES` makes it valid in configurations, evaluations and the bootstrap.

    Attributes:
        name: `cut.rule` in a configuration.
        help: what it chooses, in one line.
        on_events: value of each cut (k,) of a scanned curve; the highest is chosen.
        in_bins: the same for replicas in rank bins, (replicas, bin).
        trusted_only: whether cuts with an uncertain background (see `MAX_BACKGROUND_ERROR`) are skipped.
    """

    name: str
    help: str
    on_events: Callable[[AMSCurve], Floats]
    in_bins: Callable[[BinnedCurves], Floats]
    trusted_only: bool = True


def _lower_bound(curve: AMSCurve | BinnedCurves) -> Floats:
    with np.errstate(invalid="ignore"):  # without regularisation, an infinite AMS has an infinite error
        bound: Floats = curve.ams - curve.se
    return bound


def kernel_width(n: int) -> float:
    """Return the displacement of events in the smoothed curve, as a share of all n events (standard deviation).

    5% at 15,000 events, where it gave the highest mean and the least scatter of the cross-validated AMS among 2, 3, 5
    and 8%; narrower as n grows, at the usual rate of kernel smoothing.
    """
    return float(np.clip(0.05 * (15_000 / max(n, 1)) ** 0.2, 0.005, 0.1))


def _ranked(curve: AMSCurve) -> tuple[Floats, Bools, Floats]:
    """Return rank from 0 to 1, label and weight of the events, tightest cut first; tied scores share their middle rank.

    Tied events are sorted by label and weight. Otherwise the order of the file would decide which of them the bootstrap
    draws, and a file sorted by label would shift the curve.
    """
    n = int(curve.count[-1])
    label, weight = curve.sorted_labels, curve.sorted_weights
    if len(curve) == n:
        return (np.arange(n) + 0.5) / n, label, weight
    size = np.diff(curve.count, prepend=0)
    order = np.lexsort((weight, label, np.repeat(np.arange(len(curve)), size)))
    rank = np.repeat((curve.count - 0.5 * size) / n, size)
    return rank, label[order], weight[order]


def _smooth(curve: AMSCurve) -> Floats:
    """Return the AMS at every cut after spreading out the events by a Gaussian in rank.

    A spike that stems from one missing background event is filled in by its neighbours on either side, which resampling
    alone cannot do. It is the limit of a smoothed bootstrap (Silverman and Young, Biometrika 74 (1987) 469) for many
    replicas. Ranks make the result independent of increasing transforms of the score.
    """
    from scipy.ndimage import gaussian_filter1d

    n = int(curve.count[-1])
    rank, label, weight = _ranked(curve)
    place = np.minimum((rank * _FINE_BINS).astype(np.int64), _FINE_BINS - 1)
    sums = []
    for members in (label, ~label):
        content = np.bincount(place[members], weight[members], minlength=_FINE_BINS)
        # Reflected at both ends, so that no event leaks out of the tightest cuts.
        spread = gaussian_filter1d(content, kernel_width(n) * _FINE_BINS, mode="reflect")
        sums.append(np.maximum(np.cumsum(spread), 0.0))
    value = raw_ams(sums[0], sums[1], curve.b_reg)
    return np.interp(curve.fraction, (np.arange(_FINE_BINS) + 1.0) / _FINE_BINS, value)


def _smooth_in_bins(curves: BinnedCurves) -> Floats:
    return curves.ams_of(curves.content @ _spread_sums(kernel_width(curves.truth.y.size)))


@lru_cache(maxsize=4)
def _spread_sums(width: float) -> Floats:
    """Return the matrix (BINS, BINS) that turns sums per bin into cumulative sums of displaced events."""
    from scipy.ndimage import gaussian_filter1d

    spread = gaussian_filter1d(np.eye(BINS), width * BINS, axis=1, mode="reflect")
    return np.asarray(np.cumsum(spread, axis=1))


_RECORDS = (
    CutRule("max", "Raw maximum of the AMS curve.", lambda c: c.ams, lambda c: c.ams, trusted_only=False),
    CutRule("smooth", "Maximum of the AMS curve of events spread out in rank.", _smooth, _smooth_in_bins),
    CutRule("lower", "Maximum of the AMS minus one standard error.", _lower_bound, _lower_bound),
)
CUT_RULES: dict[str, CutRule] = {record.name: record for record in _RECORDS}
"""All rules by name."""


@dataclass(frozen=True)
class Cut:
    """A chosen cut: select events with score >= threshold.

    Attributes:
        rule: name of the rule that chose it.
        threshold: lowest selected score.
        fraction: selected share of the events it was chosen on; `s` and `b`: their selected signal and background.
        ams: AMS on these events (optimistic), and `se`: its standard error at fixed cut.
    """

    rule: str
    threshold: float
    fraction: float
    ams: float
    se: float
    s: float
    b: float


def choose_cut(curve: AMSCurve, rule: str = "smooth") -> Cut:
    """Choose a cut on a scanned curve by a rule of `CUT_RULES`.

    Raises:
        ConfigError: if the rule is not known.
        MetricError: if no cut has a defined AMS.
    """
    if rule not in CUT_RULES:
        raise ConfigError(f"cut.rule: {rule!r} is not one of {', '.join(CUT_RULES)}")
    record = CUT_RULES[rule]
    allowed = np.isfinite(curve.ams)
    if not allowed.any():
        raise MetricError("no cut has a defined AMS: the selected sums are negative everywhere")
    if record.trusted_only:
        trusted = allowed & (curve.b_relative_error <= MAX_BACKGROUND_ERROR)
        allowed = trusted if trusted.any() else allowed
    at = int(np.argmax(np.where(allowed, record.on_events(curve), -np.inf)))
    numbers = (curve.threshold, curve.fraction, curve.ams, curve.se, curve.s, curve.b)
    return Cut(rule, *(float(values[at]) for values in numbers))


def choose_bins(curves: BinnedCurves, rule: str) -> NDArray[np.intp]:
    """Choose the last selected bin of each replica, (replicas,): `choose_cut` at the resolution of the bins."""
    record = CUT_RULES[rule]
    value = record.in_bins(curves)
    if record.trusted_only:
        trusted = curves.trusted
        trusted |= ~trusted.any(axis=1, keepdims=True)
        value = np.where(trusted, value, -np.inf)
    return np.asarray(np.argmax(value, axis=1))


def best_cut(
    y_true: ArrayLike, score: ArrayLike, sample_weight: ArrayLike | None, *, rule: str = "smooth", b_reg: float = B_REG
) -> Cut:
    """Scan the AMS of scores and choose one cut.

    Args:
        y_true: (n,) truth, 1 or True for signal.
        score: (n,) any score that grows with signal likeness.
        sample_weight: (n,) evaluation weights (see `evaluation_weights`).
        rule: how the cut is chosen: a name in `CUT_RULES`.
        b_reg: regularisation of the background.

    Raises:
        MetricError: for an unknown rule, and as for `ams_scan`.

    Example:
        >>> cut = higgsbench.best_cut([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1], [30.0, 20.0, 30.0, 400.0], rule="max")
        >>> cut.threshold, round(cut.ams, 2)
        (0.7, 8.82)
    """
    return choose_cut(ams_scan(y_true, score, sample_weight, b_reg), rule)


def cross_validated_selection(score: Floats, truth: Truth, repeat: int) -> Bools:
    """Select the events (n,) of each fold by a cut that was chosen on the scores of the other folds."""
    fold = truth.fold[repeat]
    selected = np.zeros(score.size, dtype=np.bool_)
    for k in range(int(fold.max()) + 1):
        held_out = fold == k
        rest = ~held_out
        weight = evaluation_weights(truth.y[rest], truth.weight[rest], *truth.totals)
        curve = ams_scan(truth.y[rest], score[rest], weight, truth.b_reg)
        selected[held_out] = score[held_out] >= choose_cut(curve, truth.rule).threshold
    return selected
