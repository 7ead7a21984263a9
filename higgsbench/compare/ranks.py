"""Ranks of rows, over the events of one data set or over data sets; diagrams of ranks and of cost against quality.

Over data sets, a data set is the unit of all statistics. Its seeds are repeats: they are averaged, and resampled only
within their data set.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from higgsbench.compare.measure import difference_between, holm, indistinct_groups
from higgsbench.files import printable
from higgsbench.metrics.estimates import METRICS
from higgsbench.pages import p_value
from higgsbench.pages.drawing import BACKGROUND, SIGNAL, SOFT, WIDTH, log_axis, name_axis, new_figure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from matplotlib.figure import Figure

    from higgsbench.ensemble import RowMetrics
    from higgsbench.metrics.estimates import Metric
    from higgsbench.metrics.weights import Bools, Floats

ALPHA = 0.05
"""Two models are called different when the adjusted p-value is below this."""

REPLICAS = 1000
"""Bootstrap draws of the data sets and, within each, of its seeds."""

_HALF_A_DRAW = 0.25
"""Wins of each row of a pair that are added to those observed, so that a row that always wins has a finite Elo."""


@dataclass(frozen=True)
class RankPicture:
    """What a critical-difference diagram draws.

    Attributes:
        metric: what was ranked.
        names: models, best average rank first.
        ranks: (m,) average rank over bootstrap replicas, 1 is best.
        groups: positions in `names` of pairwise indistinguishable neighbours; groups may overlap.
        alpha: level of the adjusted tests.
    """

    metric: str
    names: tuple[str, ...]
    ranks: Floats
    groups: tuple[tuple[int, ...], ...]
    alpha: float


def rank_pictures(models: Sequence[RowMetrics]) -> dict[str, RankPicture]:
    """Rank measured models by each metric that is resampled.

    J. Demsar, Journal of Machine Learning Research 7 (2006) 1, section 3.2; ties share their rank.
    """
    from scipy.stats import rankdata

    index = list(combinations(range(len(models)), 2))
    out = {}
    for metric in (metric for metric in METRICS.values() if metric.headline and metric.resampled):
        values = np.column_stack([m.replicas.values[metric.key] for m in models])
        ranks = np.mean(rankdata(values if metric.lower_is_better else -values, axis=1), axis=0)
        order = np.argsort(ranks, kind="stable")
        ordered = [models[int(i)] for i in order]
        adjusted = holm([difference_between(ordered[i], ordered[j], metric.name).p_value for i, j in index])
        apart = np.zeros((len(models), len(models)), dtype=np.bool_)
        for (i, j), p in zip(index, adjusted, strict=True):
            apart[i, j] = apart[j, i] = p < ALPHA
        names = tuple(model.name for model in ordered)
        out[metric.name] = RankPicture(metric.name, names, ranks[order], indistinct_groups(apart), ALPHA)
    return out


def rank_figure(found: RankPicture) -> Figure:
    """Draw the critical-difference diagram of Demsar (J. Mach. Learn. Res. 7 (2006) 1), names one below the other."""
    figure, ax = new_figure(WIDTH, 1.0 + 0.26 * len(found.names))
    at = np.arange(len(found.names))
    ax.hlines(at, 1.0, found.ranks, color=SOFT, linewidth=0.8)
    ax.plot(found.ranks, at, "o", color=BACKGROUND, markersize=4.5)
    for step, group in enumerate(found.groups, start=1):
        x = (1.0 + 0.05 * step) * max(found.ranks)
        ax.plot([x, x], [min(group) - 0.2, max(group) + 0.2], color=SIGNAL, linewidth=3, solid_capstyle="butt")
    name_axis(ax, found.names)
    ax.set_xlabel("average rank (1: best); a bar joins models that cannot be distinguished")
    return figure


def cost_figure(
    points: Mapping[str, tuple[float, float, float]],
    label: str,
    looks: Mapping[str, dict[str, Any]],
    front: Sequence[str] = (),
) -> Figure:
    """Draw quality against the time of all fits; `points` are seconds, value and error of each row.

    A line joins the rows of the Pareto front.
    """
    figure, ax = new_figure(WIDTH, 3.4 + 0.07 * len(points))
    for name, (seconds, value, error) in points.items():
        ax.errorbar([seconds], [value], yerr=[error], markersize=5, elinewidth=0.8, label=printable(name),
                    **looks[name] | {"linestyle": ""})  # fmt: skip
    if front:
        x, y = zip(*sorted(points[name][:2] for name in front), strict=True)
        ax.step(x, y, where="post", color=SOFT, linewidth=0.8, zorder=0, label="Pareto front")
    times = [seconds for seconds, _, _ in points.values()]
    log_axis(ax, "x", narrow=max(times) < 100.0 * min(times))
    ax.set(xlabel="time of all fits [s]", ylabel=label)
    figure.legend(loc="outside upper right", ncols=3, fontsize=7)
    return figure


class Standing(NamedTuple):
    """A row over all data sets, in one metric.

    `rank` is its mean rank, 1 is best; `wins` the share of other rows that it beats; `elo` has a 95% interval; `gain`
    is the mean share of the distance between the first configured row and the best row; `seconds` is the time of all
    its fits; `front` says that no other row is at least as good (by `gain`) for less time.
    """

    row: str
    rank: float
    wins: float
    elo: float
    elo_low: float
    elo_high: float
    gain: float
    seconds: float
    front: bool


@dataclass(frozen=True)
class Ranking:
    """The rows of a suite by one metric.

    Attributes:
        metric: the metric.
        standings: best mean rank first.
        shares: (m, d) gain of each row, in this order, on each data set; see `gains`.
        friedman: p-value of Friedman's test that all rows are equal; NaN for fewer than three rows or two data sets.
        adjusted: (m, m) p-values of Wilcoxon's signed-rank tests after Holm's correction over all pairs, in the order
            of the standings.
    """

    metric: Metric
    standings: tuple[Standing, ...]
    shares: Floats
    friedman: float
    adjusted: Floats

    @property
    def datasets(self) -> int:
        """Number of data sets."""
        return int(self.shares.shape[1])

    @property
    def picture(self) -> RankPicture:
        """What a critical-difference diagram shows."""
        names = tuple(standing.row for standing in self.standings)
        ranks = np.array([standing.rank for standing in self.standings])
        groups = indistinct_groups(self.adjusted < ALPHA)
        return RankPicture(self.metric.name, names, ranks, groups, ALPHA)

    def conclusion(self) -> str:
        """Say what can and what cannot be concluded."""
        best, *others = (printable(standing.row) for standing in self.standings)
        text = f"{self.metric.heading}: {best} has the best mean rank, {self.standings[0].rank:.2f}"
        equal = [printable(s.row) for s in self.standings[1:] if s.rank == self.standings[0].rank]
        text += f" (shared with {', '.join(equal)})" if equal else ""
        beaten = [name for name, p in zip(others, self.adjusted[0, 1:], strict=True) if p < ALPHA]
        if np.isfinite(self.friedman):
            verdict = "the rows differ" if self.friedman < ALPHA else "no difference between the rows is established"
            text += f"; {verdict} (Friedman, {p_value(self.friedman, 'p')})"
        if beaten:
            text += f"; it is better than {', '.join(beaten)} (Wilcoxon, p < {ALPHA:g} after Holm's correction)"
        # The smallest p of n data sets is 2 / 2^n, which Holm's correction multiplies by the number of pairs.
        needed = int(np.ceil(np.log2(len(others) * (len(others) + 1) / ALPHA)))
        if self.datasets < needed:
            text += f"; no pair of rows can be told apart with fewer than {needed} data sets (Wilcoxon, Holm)"
        elif len(beaten) < len(others):
            text += f"; it cannot be told apart from {', '.join(name for name in others if name not in beaten)}"
        return f"{text}."


def rank_rows(metric: Metric, rows: list[str], values: Floats, seconds: Floats) -> Ranking:
    """Rank rows over data sets.

    Args:
        metric: what the values are.
        rows: at least two names; the first is the reference of the gains.
        values: (m, d, s) of m rows on d data sets with s seeds each.
        seconds: (m,) time of all fits.
    """
    from scipy.stats import rankdata

    better = -values if metric.lower_is_better else values
    means = better.mean(axis=2)
    ranks = rankdata(-means, axis=0).mean(axis=1)
    won = wins(better)
    low, high = elo_interval(won)
    strength, shares = elo(won.mean(axis=1).sum(axis=0)), gains(means)
    beaten, gain = won.mean(axis=(0, 1)).sum(axis=1) / (len(rows) - 1), shares.mean(axis=1)
    front = pareto_front(seconds, gain)
    columns = np.column_stack([ranks, beaten, strength, low, high, gain, seconds]).tolist()
    order = np.argsort(ranks, kind="stable")
    standings = tuple(Standing._make([rows[i], *columns[i], bool(front[i])]) for i in order)
    return Ranking(metric, standings, shares[order], _friedman(means), _pairs(means[order]))


def wins(better: Floats) -> Floats:
    """Return who wins (d, s, m, m) of m rows on d data sets with s seeds: 1 for the first row of a pair, 1/2 in a tie.

    `better` is (m, d, s), higher is better.
    """
    by_split = np.moveaxis(better, 0, -1)
    won: Floats = 0.5 + 0.5 * np.sign(by_split[..., :, None] - by_split[..., None, :])
    return won * (1.0 - np.eye(len(better)))


def elo(won: Floats) -> Floats:
    """Return the strengths (..., m) of rows from summed wins (..., m, m): 400 points are odds of 10 to 1, mean 1000.

    The model of R. Bradley and M. Terry, Biometrika 39 (1952) 324; the likelihood is maximised by Newton's method. Half
    a draw is added to each pair.
    """
    rows = won.shape[-1]
    won = won + _HALF_A_DRAW * (1.0 - np.eye(rows))
    games = won + np.swapaxes(won, -1, -2)
    strength = np.zeros(won.shape[:-1])
    for _ in range(100):
        expected = 1.0 / (1.0 + np.exp(strength[..., None, :] - strength[..., :, None]))
        slope = np.sum(won - games * expected, axis=-1)
        curvature = games * expected * (1.0 - expected)
        # Only differences count; the ones keep the sum of the strengths.
        matrix = np.eye(rows) * curvature.sum(axis=-1)[..., None] - curvature + 1.0
        step = np.clip(np.linalg.solve(matrix, slope[..., None])[..., 0], -1.0, 1.0)
        strength += step - step.mean(axis=-1, keepdims=True)
        if np.max(np.abs(step)) < 1e-9:
            break
    scaled: Floats = 1000.0 + 400.0 / np.log(10.0) * strength
    return scaled


def elo_interval(won: Floats, seed: int = 0) -> Floats:
    """Return the ends (2, m) of the 95% intervals of `elo` over draws of data sets and, within each, of its seeds.

    NaN for a single data set, because seeds say nothing about other data.
    """
    datasets, seeds, rows, _ = won.shape
    if datasets < 2:
        return np.full((2, rows), np.nan)
    rng = np.random.default_rng(seed)
    first = seeds * rng.integers(datasets, size=(REPLICAS, datasets, 1))
    drawn = (first + rng.integers(seeds, size=(REPLICAS, datasets, seeds))).reshape(REPLICAS, -1)
    counts = np.stack([np.bincount(splits, minlength=datasets * seeds) for splits in drawn]) / seeds
    sums = (counts @ won.reshape(datasets * seeds, -1)).reshape(REPLICAS, rows, rows)
    ends: Floats = np.percentile(elo(sums), [2.5, 97.5], axis=0)
    return ends


def gains(means: Floats) -> Floats:
    """Return each row's share (m, d) of the distance from the first row to the best on each data set, -1 to 1.

    `means` is (m, d), higher is better. Where the first row is the best, worse rows have -1.
    """
    distance = means - means[0]
    best = distance.max(axis=0)
    share = np.where(best > 0.0, distance / np.where(best > 0.0, best, 1.0), np.sign(distance))
    out: Floats = np.clip(share, -1.0, 1.0)
    return out


def pareto_front(cost: Floats, quality: Floats) -> Bools:
    """Return which rows (m,) no other row equals or beats in both cost and quality, and beats in one."""
    cheap, good = cost[:, None] <= cost, quality[:, None] >= quality
    strictly = (cost[:, None] < cost) | (quality[:, None] > quality)
    front: Bools = ~np.any(cheap & good & strictly, axis=0)
    return front


def _friedman(means: Floats) -> float:
    from scipy.stats import friedmanchisquare

    if min(means.shape[0] - 1, means.shape[1]) < 2 or not np.ptp(means, axis=0).any():
        return float("nan")
    return float(friedmanchisquare(*means).pvalue)


def _pairs(means: Floats) -> Floats:
    """Return the adjusted p-values (m, m) of all pairs of rows."""
    from scipy.stats import wilcoxon

    index = list(combinations(range(len(means)), 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ties on few data sets make p approximate
        found = [float(wilcoxon(means[i] - means[j]).pvalue) if np.any(means[i] != means[j]) else 1.0 for i, j in index]
    out = np.ones((len(means), len(means)))
    for (i, j), p in zip(index, holm(found), strict=True):
        out[i, j] = out[j, i] = p
    return out
