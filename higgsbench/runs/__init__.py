"""Layer 4: plan of work units, execution, the store on disk, resume; this module: results, and finding runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from higgsbench.errors import StoreError, nearest_hint
from higgsbench.files import ROWS, parse_sealed, printable, told_plainly, write_sealed
from higgsbench.metrics.estimates import METRICS
from higgsbench.pages import Cell, Shown, Table
from higgsbench.runs.stored import StoredRun

if TYPE_CHECKING:
    from collections.abc import Mapping

    from higgsbench.metrics.estimates import Metric
    from higgsbench.runs.budget import LeftOut

LATEST = "latest"
ANALYSIS = "analysis.json"
"""File of a run that holds what `stats --fit` and `interval` found for its rows with the statistical model."""


class Failure(NamedTuple):
    """A unit that failed: name of its row, last line of the traceback, and the absolute path of the whole traceback.

    There is no path for a row that was refused before any fit.
    """

    row: str
    message: str
    path: Path | None


@dataclass(frozen=True, repr=False)
class RunResult(Shown):
    """The result of a run.

    Attributes:
        folder: where everything is stored; absolute, so that it stays valid when the working folder changes.
        rows: leaderboard records.
        trained, reused: number of units trained by this call, and of those that were already there.
        failures: units that raised.
        left_out: rows that did not fit into a time limit.
    """

    folder: Path
    rows: list[dict[str, Any]]
    trained: int
    reused: int
    failures: list[Failure]
    left_out: list[LeftOut] = field(default_factory=list)

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", self.folder.absolute())

    def __repr__(self) -> str:
        """Name the folder and the best row; the rows themselves are long."""
        done = [row for row in self.rows if row["status"] == "ok"]
        best = max(done, key=lambda row: float(row["ams_cv"]), default=None)
        parts = [f"{len(done)} rows"]
        if best is not None:
            parts.append(f"highest AMS cv {best['ams_cv']:.3f} ± {best['ams_cv_se']:.3f} ({best['name']})")
        if self.failures:
            parts.append(f"{len(self.failures)} failed fits")
        if self.left_out:
            parts.append(f"{len(self.left_out)} left out for time")
        return f"<RunResult {self.folder}: {', '.join(parts)}; {self.trained} fits trained, {self.reused} reused>"

    def as_tables(self) -> list[Table]:
        """Return the rows with their metrics, highest AMS first."""
        metrics = [metric for metric in METRICS.values() if metric.headline]
        order = sorted(self.rows, key=lambda row: -float(row.get("ams_cv") or 0.0))
        cells: list[list[str | Cell]] = [
            [printable(row.get("name", "")), *(_cell(row, m) for m in metrics)] for row in order
        ]
        marks = ["" if row["status"] == "ok" else "failed" for row in order]
        return [Table(f"Run {self.folder.name}", ["row", *(metric.heading for metric in metrics)], cells, marks=marks)]

    def records(self) -> list[dict[str, Any]]:
        """Return the leaderboard records."""
        return self.rows

    def remarks(self) -> list[str]:
        """Return the folder, failures, and the rows that were left out."""
        lines = [f"{self.trained} fits trained, {self.reused} reused, in {self.folder}"]
        lines += [f"Failed: {failure.row}: {failure.message}" for failure in self.failures]
        return lines + [f"Left out for lack of time: {row.name}" for row in self.left_out]


def _cell(row: dict[str, Any], metric: Metric) -> Cell:
    value = row.get(metric.key)
    if value is None:
        return Cell("failed" if row["status"] != "ok" else "-", None)
    return Cell(metric.shown(value, row[f"{metric.key}_se"]), value)


def find_run(run: str | Path | StoredRun | RunResult, results: str | Path = "results") -> StoredRun:
    """Return the named run; every command and Python function that takes a run uses this.

    Args:
        run: a run's folder, the name of a run in the folder `results`, `latest` for the run there that was finished
            last, a folder of runs, of which the one finished last is taken, or what `higgsbench.run` returned.
        results: folder that holds runs.

    Raises:
        StoreError: if there is no such run, or it is unfinished, damaged, or of a version that this one cannot read.
    """
    if isinstance(run, StoredRun):
        return run
    if isinstance(run, RunResult):
        return StoredRun(run.folder)
    named, beside = Path(run).expanduser(), Path(results).expanduser()
    for folder in (named, beside / named):
        if _is_run(folder):
            return StoredRun(folder)
    for folder in (beside,) if str(run) == LATEST else (named,):
        finished = [file for file in folder.glob(f"*/{ROWS}") if not file.parent.name.startswith(".")]
        if finished:
            return StoredRun(max(finished, key=lambda file: (file.stat().st_mtime_ns, file.parent.name)).parent)
    if named.is_file():
        raise StoreError(f"{run}: a file; name a run's folder, a run in {results}, or latest")
    known = [folder.name for folder in run_folders(beside)] if beside.is_dir() else []
    hint = nearest_hint(str(run), known, f"; choose from {', '.join(known[:8])}" if known else "")
    raise StoreError(
        f"{run}: no finished run of that name here or in {results}{hint}; `higgsbench run` prints where it stores one"
    )


def read_analysis(run: StoredRun) -> dict[str, dict[str, Any]]:
    """Return what is stored about the statistical model, by the name of the row; results of earlier fits are left out.

    If the file is damaged, a note of the run says so.
    """
    file = run.folder / ANALYSIS
    if not file.is_file():
        return {}
    try:
        stored = dict(parse_sealed(file.read_bytes(), required=True)["rows"])
        digests = {row.name: row.record["digest"] for row in run.rows if row.ok}
        return {name: dict(entry) for name, entry in stored.items() if entry["digest"] == digests.get(name)}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        run.notes.append(f"{run.name}: {ANALYSIS} is damaged; `higgsbench interval` writes it again")
        return {}


def store_analysis(run: StoredRun, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Add results about the statistical model to what is stored about some rows.

    Raises:
        StoreError: if the file cannot be written.
    """
    stored = read_analysis(run)
    for name, entry in rows.items():
        same = stored.get(name, {}) if stored.get(name, {}).get("model") == entry["model"] else {}
        stored[name] = {**same, **entry, "digest": run.row(name).record["digest"]}
    with told_plainly(StoreError, run.folder / ANALYSIS):
        write_sealed(run.folder / ANALYSIS, {"rows": stored})


def _is_run(folder: Path) -> bool:
    """Whether a folder holds a run, finished or not."""
    return (folder / ROWS).is_file() or (folder / "units").is_dir()


def run_folders(results: Path) -> list[Path]:
    """Return the folders of all runs under a folder, unfinished ones too, or the folder itself where it is a run.

    Raises:
        StoreError: if there is no such folder.
    """
    if results.is_file():
        raise StoreError(f"{results}: a file; name a folder of runs, or the folder of one run")
    if not results.is_dir():
        raise StoreError(f"{results}: no such folder; `higgsbench run` makes it")
    if _is_run(results):
        return [results]
    return sorted(p for p in results.iterdir() if p.is_dir() and not p.name.startswith(".") and _is_run(p))
