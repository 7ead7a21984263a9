"""Reading and checking an official-format file against pandas.read_csv."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any

import polars as pl

from benchmarks.performance.figures import Figures, Verdict
from benchmarks.performance.measure import in_process, in_turn, ratio, summary
from higgsbench.events import load_events
from higgsbench.events.simulate import SimulationSettings, write_simulated

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["SETTINGS", "measure", "report"]

SETTINGS = {"events": 750_000, "rounds": 7}
BOUNDS = {"plain": 1.0, "gzipped": 0.5, "cached": 0.3}


def measure(figures: Figures, folder: Path) -> None:
    """Time each way to read, plain and gzipped, in turn, after one round that is not counted."""
    import pandas as pd

    os.environ["HIGGSBENCH_CACHE_DIR"] = str(folder / "cache")
    settings = SimulationSettings(events=SETTINGS["events"], seed=4)
    plain, gzipped = (write_simulated(settings, folder / f"events{ending}", jobs=2) for ending in (".csv", ".csv.gz"))
    calls: dict[str, Callable[[], object]] = {
        "plain": lambda: load_events(plain, cache=False),
        "pandas plain": lambda: pd.read_csv(plain),
        "cached": lambda: load_events(plain),
        "polars plain": lambda: pl.read_csv(plain),
        "gzipped": lambda: load_events(gzipped, cache=False),
        "pandas gzipped": lambda: pd.read_csv(gzipped),
        "cached gzipped": lambda: load_events(gzipped),
        "polars gzipped": lambda: pl.read_csv(gzipped),
    }
    for call in calls.values():
        call()
    timed = {name: functools.partial(in_process, call) for name, call in calls.items()}
    in_turn(timed, SETTINGS["rounds"], figures.content, figures.keep)


def report(content: dict[str, Any]) -> tuple[list[str], list[Verdict]]:
    """Tell times and ratios to pandas of the same file."""
    lines = [
        f"{SETTINGS['events']:,} simulated events in the official format; each row after the other, then all again.",
        "",
    ]
    lines += [
        "| file | higgsbench | pandas | on the clock | of the processor | bare polars |",
        "|---|---|---|---|---|---|",
    ]
    verdicts = []
    names = {"plain": "parsed and checked", "cached": "from the cache", "gzipped": "parsed and checked"}
    for key, what in {**names, "cached gzipped": "from the cache"}.items():
        ending = "gzipped" if "gzipped" in key else "plain"
        theirs = content[f"pandas {ending}"]
        wall, cpu = ratio(content[key], theirs), ratio(content[key], theirs, "cpu")
        lines.append(
            f"| {ending}, {what} | {summary(content[key], 2)} | {summary(theirs, 2)} | {wall} | {cpu} | "
            f"{summary(content[f'polars {ending}'], 2)} |"
        )
        if key in BOUNDS:
            title = "from cache, over pandas of the plain file" if key == "cached" else f"{ending}, over pandas"
            verdicts.append(Verdict(title, wall.median, BOUNDS[key], cpu=cpu.median))
    return lines, verdicts
