"""Runs of several data sets: their rows over all, as tables, pages, figures, and files for other programs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench import __version__
from higgsbench.compare.curve import SHOWN
from higgsbench.compare.ranks import REPLICAS, cost_figure, rank_figure, rank_rows
from higgsbench.errors import ConfigError, StoreError, shortened
from higgsbench.files import atomic_path, check_folder_of, printable, told_plainly
from higgsbench.metrics.estimates import METRICS
from higgsbench.pages import Cell, Gallery, Section, Shown, Table, drawing, page
from higgsbench.runs.stored import StoredRun

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars

    from higgsbench.compare.ranks import Ranking
    from higgsbench.metrics.estimates import Metric
    from higgsbench.pages import Picture
    from higgsbench.pages.drawing import Pictures
    from higgsbench.runs import Failure, RunResult

_WRITERS: dict[str, Callable[[polars.DataFrame, Path], object]] = {
    ".csv": lambda frame, file: frame.write_csv(file),
    ".json": lambda frame, file: frame.write_json(file),
    ".parquet": lambda frame, file: frame.write_parquet(file),
}


@dataclass(frozen=True, repr=False)
class SuiteResult(Shown):
    """Models on several data sets.

    Attributes:
        runs: the run of each data set.
        rankings: the rows over all data sets, one for each metric.
        notes: what was left out, and why.
        about: table of the data sets; see `describe`.
    """

    runs: Mapping[str, RunResult]
    rankings: tuple[Ranking, ...]
    notes: tuple[str, ...]
    about: Table | None = None

    def __repr__(self) -> str:
        """Name the data sets and the best row."""
        best = "".join(f", best by {r.metric.heading}: {r.standings[0].row}" for r in self.rankings[:1])
        return f"<SuiteResult on {', '.join(self.runs)}{best}>"

    @property
    def failures(self) -> list[Failure]:
        """Fits that failed on any data set."""
        return [f._replace(row=f"{name}: {f.row}") for name, run in self.runs.items() for f in run.failures]

    def as_tables(self) -> list[Table]:
        """Return a table of the data sets, one of all rows for each metric, and the AMS on each data set."""
        head = ["row", "rank", "wins", "Elo", "95%", "gain", "fit s", "front"]
        tables = [] if self.about is None else [self.about]
        for ranking in self.rankings:
            alone = ranking.datasets == 1
            cells: list[list[str | Cell]] = [
                [printable(s.row), Cell(f"{s.rank:.2f}", s.rank), f"{s.wins:.0%}", Cell(f"{s.elo:.0f}", s.elo),
                 "-" if alone else f"{s.elo_low:.0f} to {s.elo_high:.0f}", Cell(f"{s.gain:+.2f}", s.gain),
                 Cell(f"{s.seconds:,.0f}", s.seconds), "*" if s.front else ""]
                for s in ranking.standings
            ]  # fmt: skip
            over = "1 data set" if alone else f"{ranking.datasets} data sets"
            tables.append(Table(f"{ranking.metric.heading} over {over}", head, cells))
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

    def to_bencheval(self) -> polars.DataFrame:
        """Return all splits of the ranked rows as bencheval 0.1.0 reads them (https://pypi.org/project/bencheval).

        One line per metric, task (data set), method (row) and seed. `metric_error` is at least 0 and lower for better
        rows: the log-loss, 1 - wAUC, and 1 / AMS, which is about the relative error of the signal strength.
        """
        import polars

        ranked = {standing.row for ranking in self.rankings for standing in ranking.standings}
        lines = [
            {"task": split["dataset"], "method": split["row"], "seed": split["seed"], "metric": metric.name,
             "metric_error": _error(metric, split[metric.key]), "time_train_s": split["fit_seconds"]}
            for metric in SHOWN for split in self.records() if split["row"] in ranked
        ]  # fmt: skip
        return polars.DataFrame(lines)

    def remarks(self) -> list[str]:
        """Return what can be concluded, what the columns mean, and notes."""
        lines = [ranking.conclusion() for ranking in self.rankings]
        if self.rankings:
            reference = printable(next(row["name"] for run in self.runs.values() for row in run.rows))
            drawn = f"95% from {REPLICAS} draws of data sets and seeds"
            drawn = drawn if self.rankings[0].datasets > 1 else "its interval needs several data sets"
            lines.append(
                "rank: mean over data sets, 1 is best. wins: other rows beaten on the same data set and seed. Elo: "
                f"400 points are odds of 10 to 1; {drawn}. gain: share of the "
                f"distance from {reference} to the best row. fit s: all fits. front (*): no faster row is as good."
            )
        return [*lines, *(f"Note: {printable(note)}" for note in self.notes)]

    def as_json(self) -> dict[str, Any]:
        """Return everything in full precision."""
        rankings = {
            ranking.metric.name: {
                "rows": [standing._asdict() for standing in ranking.standings],
                "gains": [dict(zip(self.runs, shares, strict=True)) for shares in ranking.shares.tolist()],
                "friedman_p": ranking.friedman,
                "wilcoxon_p_holm": ranking.adjusted.tolist(),
                "conclusion": ranking.conclusion(),
            }
            for ranking in self.rankings
        }
        folders = {name: run.folder.name for name, run in self.runs.items()}
        return {"datasets": folders, "rankings": rankings, "splits": self.records(), "notes": list(self.notes)}

    def as_page(self, pictures: Pictures | None = None, style: str = "atlas") -> str:
        """Return a page in HTML, and keep its figures in files if `pictures` says so.

        Raises:
            MissingExtraError: without the drawing libraries (extra `report`).
        """
        with drawing.style(style):
            figures = suite_pictures(self, pictures or drawing.Pictures())
        tables = [_shares_table(ranking, list(self.runs)) for ranking in self.rankings]
        parts = [
            Section("conclusions", "What can be concluded", self.remarks()),
            Section("figures", "Ranks, and cost against quality", [Gallery(figures, "wide")] if figures else []),
            Section("numbers", "Rows over all data sets, and on each", self.as_tables()),
            Section("gains", "Gain on each data set", tables),
        ]
        return page("higgsbench suite", [], parts, f"Made by higgsbench {__version__} suite.")


def _shares_table(ranking: Ranking, datasets: list[str]) -> Table:
    cells: list[list[str | Cell]] = [
        [printable(standing.row), *(Cell(f"{share:+.2f}", share) for share in shares)]
        for standing, shares in zip(ranking.standings, ranking.shares.tolist(), strict=True)
    ]
    return Table(f"{ranking.metric.heading}: gain", ["row", *map(printable, datasets)], cells)


def describe(runs: Mapping[str, RunResult], settings: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return a table of the data sets: events, seeds, the keys of `data` that were given, and the folders of runs."""
    rows = []
    for name, run in runs.items():
        about, keys = StoredRun(run.folder).comparability, dict(settings[name])
        keys.pop("source", None)
        what = ["TOY SIMULATION"] if about.get("simulated") else []
        what += [f"{key}: {json.dumps(value)}" for key, value in keys.items()]
        seeds = dict.fromkeys(str(split["seed"]) for split in _splits({name: run}))
        counts = f"{about['events']:,}", f"{about.get('test_events') or 0:,}"
        rows.append([printable(name), *counts, ", ".join(seeds), shortened(", ".join(what), 200), run.folder.name])
    return Table("Data sets", ["data set", "events", "held out", "seeds", "data", "run"], rows, text=(0, 3, 4, 5))


def summarise(runs: Mapping[str, RunResult], notes: Iterable[str] = (), about: Table | None = None) -> SuiteResult:
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
    return SuiteResult(runs, tuple(rankings), (*notes, *lost), about)


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


def check_target(option: str, target: Path) -> None:
    """Check the name of a file of splits before any work is done; a `ConfigError` names the option and the problem."""
    if target.suffix not in _WRITERS:
        raise ConfigError(f"{option} {target}: the name must end in {', '.join(_WRITERS)}")
    check_folder_of(target, ConfigError)


def write_splits(table: polars.DataFrame, target: Path) -> None:
    """Write a table of `SuiteResult` as CSV, JSON or Parquet; a `StoreError` if writing fails."""
    with told_plainly(StoreError, target), atomic_path(target) as temporary:
        _WRITERS[target.suffix](table, temporary)


def _error(metric: Metric, value: float) -> float:
    if metric.lower_is_better:
        return value
    if math.isfinite(metric.largest):
        return metric.largest - value
    return 1.0 / value if value > 0.0 else math.inf


def suite_pictures(result: SuiteResult, pictures: Pictures) -> list[Picture]:
    """Draw for each metric a critical-difference diagram, and the gain against the time of all fits."""
    out = []
    for found in result.rankings:
        points = {s.row: (s.seconds, s.gain, math.nan) for s in found.standings}
        front = [s.row for s in found.standings if s.front]
        figure = cost_figure(points, f"gain in {found.metric.heading}", drawing.row_looks(points), front)
        name, words = found.metric.name, ", ".join(map(printable, front))
        out += [
            pictures.add(f"suite-ranks-{name}", rank_figure(found.picture), found.conclusion()),
            pictures.add(f"suite-cost-{name}", figure, f"{found.metric.heading}: rows of the Pareto front: {words}."),
        ]
    return out
