"""Time and memory of a run of six models, preset `good`, from 25,000 to 800,000 simulated events."""

from __future__ import annotations

import shutil
import statistics
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.performance.events import six_models, training_events
from benchmarks.performance.figures import Figures, Verdict
from benchmarks.performance.memory import stored, watched_command
from higgsbench.schema import FEATURES

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["SETTINGS", "exponent", "measure", "report"]

SETTINGS: dict[str, Any] = {
    "events": [25_000, 100_000, 400_000, 800_000],
    "startup": 1_000,
    "thrice": [1_000, 25_000, 100_000],
    "folds": 2,
    "jobs": 2,
}


def measure(figures: Figures, folder: Path) -> None:
    """Run every size, and a tiny one whose memory is the cost of starting up; small ones three times.

    Looks at the memory may miss a short peak.
    """
    for events in (SETTINGS["startup"], *SETTINGS["events"]):
        runs = figures.content.setdefault(str(events), [])
        while len(runs) < (3 if events in SETTINGS["thrice"] else 1):
            runs.append(_run(events, folder))
            figures.keep()


def _run(events: int, folder: Path) -> dict[str, Any]:
    data = training_events(events, folder)
    (folder / "growth.yaml").write_text(six_models(data, SETTINGS["folds"]))
    run = ["-m", "higgsbench", "run", "growth.yaml", "--jobs", str(SETTINGS["jobs"]), "--output", "out", "--quiet"]
    found = stored(*watched_command(run, folder))
    shutil.rmtree(folder / "out")
    data.unlink()
    return found


def _summary(runs: list[dict[str, Any]]) -> dict[str, float]:
    """Median times and highest peaks."""
    times = {key: statistics.median(run[key] for run in runs) for key in ("wall", "cpu")}
    return times | {key: max(run[key] for run in runs) for key in ("main", "worker", "total")}


def exponent(events: list[int], values: list[float]) -> float:
    """Slope of ln(value) against ln(events), by least squares."""
    return float(np.polyfit(np.log(events), np.log(values), 1)[0])


def report(content: dict[str, Any]) -> tuple[list[str], list[Verdict]]:
    """Tell times, memory above start-up in units of the training matrix, and exponents."""
    sizes = SETTINGS["events"]
    measured = {int(events): _summary(runs) for events, runs in content.items()}
    start = measured[SETTINGS["startup"]]
    lines = [
        f"Six models, preset `good`, one global model each, {SETTINGS['folds']} folds, {SETTINGS['jobs']} processes. "
        "Memory is proportional set size, so that what processes share counts once; `matrix` is the float32 training "
        "matrix of all events. Up to 100,000 events peaks are the highest and times the medians of three runs. "
        f"Start-up, a run of {SETTINGS['startup']:,} events, is taken off: main process {_mb(start['main'])}, a worker "
        f"{_mb(start['worker'])}, all together {_mb(start['total'])}.",
        "",
        "| events | clock s | processor s | matrix | main above start-up | worker above start-up | all, peak "
        "| all above start-up |",
        "|---|---|---|---|---|---|---|---|",
    ]
    worst = 0.0
    for events in sizes:
        found = measured[events]
        matrix = 4 * len(FEATURES) * events
        main, worker, total = (max(0, found[key] - start[key]) for key in ("main", "worker", "total"))
        worst = max(worst, main / matrix, worker / matrix)
        lines.append(
            f"| {events:,} | {found['wall']:.0f} | {found['cpu']:.0f} | {_mb(matrix)} | "
            f"{_mb(main)} ({main / matrix:.1f} x) | {_mb(worker)} ({worker / matrix:.1f} x) | "
            f"{_mb(found['total'])} | {_mb(total)} ({total / matrix:.1f} x) |"
        )
    wall, cpu = (exponent(sizes, [measured[n][kind] for n in sizes]) for kind in ("wall", "cpu"))
    verdicts = [
        Verdict("exponent of time", wall, 1.1, cpu=cpu),
        Verdict("peak memory of a process above start-up, in matrices, at the worst of the sizes", worst, 4.0),
    ]
    return lines, verdicts


def _mb(number: float) -> str:
    return f"{number / 1e6:,.0f} MB"
