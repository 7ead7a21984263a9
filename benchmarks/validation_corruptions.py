"""Which share of one-cell corruptions does `higgsbench data validate` notice?

Usage: python benchmarks/validation_corruptions.py [FILE] [--events N] [--seed S]

FILE is an event file; by default the real sample beside the project where it is there, otherwise simulated events.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from higgsbench.events import load_events
from higgsbench.events.validate import validate_events
from higgsbench.events.validate.corrupt import corruptions_caught, total_share

if TYPE_CHECKING:
    import polars as pl

    from higgsbench.events.validate.corrupt import Caught

SAMPLE = Path(__file__).parents[2] / "shared" / "data" / "atlas-higgs-challenge-2014-v2-sample.csv.gz"


def _events(file: Path | None, events: int) -> tuple[str, pl.DataFrame]:
    chosen = file or (SAMPLE if SAMPLE.exists() else None)
    if chosen is not None:
        return chosen.name, load_events(chosen, cache=False).frame.head(events)
    import polars as pl

    from higgsbench.events.simulate import SimulationSettings, simulate
    from higgsbench.schema import FEATURES

    frame = simulate(SimulationSettings(events=events))
    measured = [name for name in FEATURES if name != "PRI_jet_num"]
    return "simulated events", frame.with_columns(pl.when(pl.col(measured) != -999.0).then(pl.col(measured)))


def _print_by(results: list[Caught], attribute: str) -> None:
    print(f"\n{attribute:<30}{'cells':>9}{'caught':>9}{'strict':>9}")
    for name in dict.fromkeys(getattr(r, attribute) for r in results):
        rows = [r for r in results if getattr(r, attribute) == name]
        cells = sum(r.cells for r in rows)
        print(f"{name:<30}{cells:>9,}{total_share(rows):>9.1%}{total_share(rows, strict=True):>9.1%}")


def main() -> None:
    """Print the shares by kind of corruption and by column."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, nargs="?")
    parser.add_argument("--events", type=int, default=15_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    name, frame = _events(arguments.file, arguments.events)
    start = time.perf_counter()
    validate_events(frame)
    print(f"{name}: {frame.height:,} events, validated in {time.perf_counter() - start:.2f} s")
    results = corruptions_caught(frame, arguments.seed)
    _print_by(results, "kind")
    _print_by(results, "column")
    print(f"\nall: {total_share(results):.1%} caught, {total_share(results, strict=True):.1%} strict")


if __name__ == "__main__":
    main()
