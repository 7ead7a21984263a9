"""Reading and checking an official-format file against pandas.read_csv and bare polars.read_csv."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import polars as pl

from benchmarks._common import in_turn, median, publish
from higgsbench.events import load_events
from higgsbench.events.simulate import SimulationSettings, write_simulated

EVENTS = 750_000
ROUNDS = 3


def main() -> None:
    import pandas as pd

    lines = [f"{EVENTS:,} simulated events in the official format; medians of {ROUNDS} pairs, each pair in turn.", ""]
    lines += ["| file | higgsbench s | pandas s | ratio to pandas | ratio to bare polars |", "|---|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["HIGGSBENCH_CACHE_DIR"] = str(folder / "cache")
        for ending in (".csv", ".csv.gz"):
            file = write_simulated(SimulationSettings(events=EVENTS, seed=4), folder / f"events{ending}", jobs=2)
            ours, pandas = in_turn(lambda f=file: load_events(f, cache=False), lambda f=file: pd.read_csv(f), ROUNDS)
            again, bare = in_turn(lambda f=file: load_events(f, cache=False), lambda f=file: pl.read_csv(f), ROUNDS)
            cached, _ = in_turn(lambda f=file: load_events(f), lambda: None, ROUNDS)
            lines.append(_row(f"`{ending}` parsed and checked", ours, pandas, median(again) / median(bare)))
            lines.append(_row(f"`{ending}` from the cache", cached, pandas, median(cached) / median(bare)))
    publish("reading-speed", "Reading event files", lines)


def _row(name: str, ours: list[float], pandas: list[float], to_polars: float) -> str:
    ratio = median(ours) / median(pandas)
    return f"| {name} | {median(ours):.2f} | {median(pandas):.2f} | {ratio:.2f} | {to_polars:.2f} |"


if __name__ == "__main__":
    main()
