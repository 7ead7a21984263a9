"""Rows over several data sets: ranks, wins, Elo, gains, cost, and what can be concluded.

A data set is the unit of all statistics. Its seeds are repeats: they are averaged, and resampled only within their
data set.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from higgsbench import __version__
from higgsbench.compare.curve import SHOWN
from higgsbench.compare.measure import holm, indistinct_groups
from higgsbench.compare.ranks import ALPHA, RankPicture, rank_figure
from higgsbench.errors import ConfigError, StoreError
from higgsbench.files import atomic_path, check_folder_of, printable, told_plainly
from higgsbench.metrics.estimates import METRICS
from higgsbench.pages import Cell, Section, Shown, Table, page

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars

    from higgsbench.metrics.estimates import Metric
    from higgsbench.metrics.weights import Bools, Floats
    from higgsbench.pages import Picture
    from higgsbench.pages.drawing import Pictures
    from higgsbench.runs import Failure, RunResult

REPLICAS = 1000
"""Bootstrap draws of the data sets and, within each, of its seeds."""

_HALF_A_DRAW = 0.25
"""Wins of each row of a pair that are added to those observed, so that a row that always wins has a finite Elo."""

_WRITERS: dict[str, Callable[[polars.DataFrame, Path], object]] = {
    ".csv": lambda frame, file: frame.write_csv(file),
    ".json": lambda frame, file: frame.write_json(file),
    ".parquet": lambda frame, file: frame.write_parquet(file),
}


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
        datasets: number of data sets.
        friedman: p-value of Friedman's test that all rows are equal; NaN for fewer than three rows or two data sets.
        adjusted: (m, m) p-values of Wilcoxon's signed-rank tests after Holm's correction over all pairs, in the order
            of the standings.
    """

    metric: Metric
    standings: tuple[Standing, ...]
    datasets: int
    friedman: float
    adjusted: Floats

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
        text += f" (as {', '.join(equal)})" if equal else ""
        beaten = [name for name, p in zip(others, self.adjusted[0, 1:], strict=True) if p < ALPHA]
        if np.isfinite(self.friedman):
            verdict = "the rows differ" if self.friedman < ALPHA else "no difference between the rows is established"
            text += f"; {verdict} (Friedman, p = {self.friedman:.2g})"
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
    strength, gain = elo(won.mean(axis=1).sum(axis=0)), gains(means)
    shares = won.mean(axis=(0, 1)).sum(axis=1) / (len(rows) - 1)
    front = pareto_front(seconds, gain)
    columns = np.column_stack([ranks, shares, strength, low, high, gain, seconds]).tolist()
    order = np.argsort(ranks, kind="stable")
    standings = tuple(Standing._make([rows[i], *columns[i], bool(front[i])]) for i in order)
    return Ranking(metric, standings, means.shape[1], _friedman(means), _pairs(means[order]))


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
    """Return the ends (2, m) of the 95% intervals of `elo` over draws of data sets and, within each, of its seeds."""
    datasets, seeds, rows, _ = won.shape
    rng = np.random.default_rng(seed)
    first = seeds * rng.integers(datasets, size=(REPLICAS, datasets, 1))
    drawn = (first + rng.integers(seeds, size=(REPLICAS, datasets, seeds))).reshape(REPLICAS, -1)
    counts = np.stack([np.bincount(splits, minlength=datasets * seeds) for splits in drawn]) / seeds
    sums = (counts @ won.reshape(datasets * seeds, -1)).reshape(REPLICAS, rows, rows)
    ends: Floats = np.percentile(elo(sums), [2.5, 97.5], axis=0)
    return ends


def gains(means: Floats) -> Floats:
    """Return the mean over data sets of each row's share of the distance from the first row to the best, -1 to 1.

    `means` is (m, d), higher is better. Where the first row is the best, worse rows have -1.
    """
    distance = means - means[0]
    best = distance.max(axis=0)
    share = np.where(best > 0.0, distance / np.where(best > 0.0, best, 1.0), np.sign(distance))
    out: Floats = np.clip(share, -1.0, 1.0).mean(axis=1)
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


@dataclass(frozen=True, repr=False)
class SuiteResult(Shown):
    """Models on several data sets.

    Attributes:
        runs: the run of each data set.
        rankings: the rows over all data sets, one for each metric.
        notes: what was left out, and why.
    """

    runs: Mapping[str, RunResult]
    rankings: tuple[Ranking, ...]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        """Name the data sets and the best row."""
        best = "".join(f", best by {r.metric.heading}: {r.standings[0].row}" for r in self.rankings[:1])
        return f"<SuiteResult of {len(self.runs)} data sets: {', '.join(self.runs)}{best}>"

    @property
    def failures(self) -> list[Failure]:
        """Fits that failed on any data set."""
        return [f._replace(row=f"{name}: {f.row}") for name, run in self.runs.items() for f in run.failures]

    def as_tables(self) -> list[Table]:
        """Return a table of all rows for each metric, and the AMS on each data set."""
        head = ["row", "rank", "wins", "Elo", "95%", "gain", "fit s", "front"]
        tables = []
        for ranking in self.rankings:
            cells: list[list[str | Cell]] = [
                [printable(s.row), Cell(f"{s.rank:.2f}", s.rank), f"{s.wins:.0%}", Cell(f"{s.elo:.0f}", s.elo),
                 f"{s.elo_low:.0f} to {s.elo_high:.0f}", Cell(f"{s.gain:+.2f}", s.gain),
                 Cell(f"{s.seconds:,.0f}", s.seconds), "*" if s.front else ""]
                for s in ranking.standings
            ]  # fmt: skip
            tables.append(Table(f"{ranking.metric.heading} over {ranking.datasets} data sets", head, cells))
        metric = METRICS["ams"]
        rows: dict[str, dict[str, str]] = {}
        for name, run in self.runs.items():
            for row in run.rows:
                shown = metric.shown(row["ams_cv"], row["ams_cv_se"]) if row["status"] == "ok" else "failed"
                rows.setdefault(row["name"], {})[name] = shown
        cells = [[printable(row), *(own.get(name, "-") for name in self.runs)] for row, own in rows.items()]
        return [*tables, Table("AMS on each data set", ["row", *map(printable, self.runs)], cells)]

    def records(self) -> list[dict[str, Any]]:
        """Return one record per data set, row and seed."""
        return list(_splits(self.runs))

    def remarks(self) -> list[str]:
        """Return what can be concluded, what the columns mean, and notes."""
        lines = [ranking.conclusion() for ranking in self.rankings]
        if self.rankings:
            reference = printable(next(row["name"] for run in self.runs.values() for row in run.rows))
            lines.append(
                "rank: mean over data sets, 1 is best. wins: other rows beaten on the same data set and seed. Elo: "
                f"400 points are odds of 10 to 1; 95% from {REPLICAS} draws of data sets and seeds. gain: share of the "
                f"distance from {reference} to the best row. fit s: all fits. front (*): no faster row is as good."
            )
        return [*lines, *(f"Note: {printable(note)}" for note in self.notes)]

    def as_json(self) -> dict[str, Any]:
        """Return everything in full precision."""
        rankings = {
            ranking.metric.name: {
                "rows": [standing._asdict() for standing in ranking.standings],
                "friedman_p": ranking.friedman,
                "wilcoxon_p_holm": ranking.adjusted.tolist(),
                "conclusion": ranking.conclusion(),
            }
            for ranking in self.rankings
        }
        folders = {name: run.folder.name for name, run in self.runs.items()}
        return {"datasets": folders, "rankings": rankings, "splits": self.records(), "notes": list(self.notes)}

    def as_page(self) -> str:
        """Return a page in HTML."""
        parts = [Section("conclusions", "What can be concluded", self.remarks())]
        parts.append(Section("numbers", "Rows over all data sets, and on each", self.as_tables()))
        return page("higgsbench suite", [], parts, f"Made by higgsbench {__version__} suite.")


def summarise(runs: Mapping[str, RunResult], notes: Iterable[str] = ()) -> SuiteResult:
    """Rank the rows of runs with the same models and seeds, by data set; rows that a data set lacks are left out."""
    splits = list(_splits(runs))
    names = list(dict.fromkeys(str(split["row"]) for split in splits))
    own = {name: [split for split in splits if split["row"] == name] for name in names}
    complete = [name for name in names if {split["dataset"] for split in own[name]} == set(runs)]
    lost = [f"{name}: not ranked, because it has no results on some data set" for name in names if name not in complete]
    rankings = []
    for metric in SHOWN if len(complete) > 1 else ():
        values = np.array([[split[metric.key] for split in own[name]] for name in complete])
        seconds = np.array([sum(split["fit_seconds"] for split in own[name]) for name in complete])
        rankings.append(rank_rows(metric, complete, values.reshape(len(complete), len(runs), -1), seconds))
    return SuiteResult(runs, tuple(rankings), (*notes, *lost))


def _splits(runs: Mapping[str, RunResult]) -> Iterable[dict[str, Any]]:
    for name, run in runs.items():
        for row in (row for row in run.rows if row["status"] == "ok"):
            each = {metric.key: row.get(f"{metric.key}_repeats", [row[metric.key]]) for metric in SHOWN}
            repeats = len(each[SHOWN[0].key])
            seeds = row["seed"] if isinstance(row["seed"], list) else range(row["seed"], row["seed"] + repeats)
            for at, seed in enumerate(seeds):
                values = {key: found[at] for key, found in each.items()}
                cost = row["fit_seconds"] / repeats
                yield {"dataset": name, "row": row["name"], "seed": seed, **values, "fit_seconds": cost}


def check_splits(target: Path) -> None:
    """Check the name of a file of splits before any work is done; a `ConfigError` says what is wrong with it."""
    if target.suffix not in _WRITERS:
        raise ConfigError(f"--splits {target}: the name must end in {', '.join(_WRITERS)}")
    check_folder_of(target, ConfigError)


def write_splits(result: SuiteResult, target: Path) -> None:
    """Write one line per data set, row and seed as CSV, JSON or Parquet; a `StoreError` if writing fails."""
    with told_plainly(StoreError, target), atomic_path(target) as temporary:
        _WRITERS[target.suffix](result.to_polars(), temporary)


def suite_pictures(result: SuiteResult, pictures: Pictures) -> list[Picture]:
    """Draw a critical-difference diagram for each metric."""
    return [
        pictures.add(f"suite-ranks-{found.metric.name}", rank_figure(found.picture), found.conclusion())
        for found in result.rankings
    ]
