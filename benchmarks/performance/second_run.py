"""A second run that finds everything done, and a leaderboard over 200 stored runs."""

from __future__ import annotations

import json
import statistics
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from benchmarks.performance.events import six_models, training_events
from benchmarks.performance.figures import Figures, Verdict
from benchmarks.performance.measure import command, in_turn, summary
from higgsbench.files import file_digest

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["SETTINGS", "copies_of", "measure", "report"]

SETTINGS = {"events": 15_000, "rounds": 5, "runs": 200}


def measure(figures: Figures, folder: Path) -> None:
    """Run once with small models, then time the same command again, and the leaderboard over copies of that run."""
    data = training_events(SETTINGS["events"], folder)
    (folder / "six.yaml").write_text(six_models(data, 5, preset="quick", jet_split="both"))
    again = ["-m", "higgsbench", "run", "six.yaml", "--output", "out", "--quiet"]
    command(again, folder)
    (run,) = (folder / "out").iterdir()
    copies_of(run, folder / "many", SETTINGS["runs"])
    calls = {
        "again": lambda: command(again, folder),
        "leaderboard": lambda: command(["-m", "higgsbench", "leaderboard", "--results", "many"], folder),
        "interpreter": lambda: command(["-c", "import numpy, polars, scipy.stats"], folder),
    }
    in_turn(calls, SETTINGS["rounds"], figures.content, figures.keep)


def copies_of(run: Path, results: Path, number: int) -> None:
    """Write runs like a stored one, each with fits, scores of its rows and replicas of its own.

    Args:
        run: folder of a finished run.
        results: folder for the copies.
        number: how many.
    """
    content, replicas = json.loads((run / "rows.json").read_text()), pl.read_parquet(run / "replicas.parquet")
    content.pop("seal", None)  # the checksum of what is changed below
    for index in range(number):
        rng = np.random.default_rng(index)
        folder = results / f"run-{index:03d}"
        (folder / "units").mkdir(parents=True)
        rows = [
            {**row, "digest": f"{row['digest']}-{index}", "ams_cv": row["ams_cv"] + 0.05 * rng.normal()}
            for row in content["rows"]
        ]
        moved = replicas.select(pl.all() + 0.05 * pl.Series(rng.normal(size=replicas.height)))
        moved.write_parquet(folder / "replicas.parquet", compression="zstd", statistics=False)
        sums = {**content["checksums"], "replicas.parquet": file_digest(folder / "replicas.parquet")}
        (folder / "rows.json").write_text(json.dumps({**content, "run": folder.name, "rows": rows, "checksums": sums}))


def report(content: dict[str, Any]) -> tuple[list[str], list[Verdict]]:
    """Tell times."""
    wall, cpu = (
        {name: statistics.median(cost[kind] for cost in costs) for name, costs in content.items()}
        for kind in ("wall", "cpu")
    )
    text = (
        f"`higgsbench run` of 12 rows and a stack on {SETTINGS['events']:,} events, all stored: "
        f"{summary(content['again'], 2)}. `higgsbench leaderboard` over {SETTINGS['runs']} runs of 13 rows each: "
        f"{summary(content['leaderboard'], 2)}. For comparison, Python with `import numpy, polars, scipy.stats`: "
        f"{summary(content['interpreter'], 2)}. Medians of {len(content['again'])} rounds in turn."
    )
    verdicts = [
        Verdict("second run", wall["again"], 3.0, unit="s", cpu=cpu["again"]),
        Verdict("leaderboard over 200 runs", wall["leaderboard"], 2.0, unit="s", cpu=cpu["leaderboard"]),
    ]
    return [text], verdicts
