"""python -m benchmarks.performance [--part NAME ...] [--output FOLDER]."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import REFERENCE, SectionedReport
from benchmarks.performance import against, alone, root
from benchmarks.performance.measuring import Figures, Verdict, loads, verdict_lines


@dataclass(frozen=True)
class Part:
    """One part of the benchmark.

    Attributes:
        name: for `--part`.
        title: heading of its section.
        settings: sizes and rounds; figures of other settings are not reused.
        measure: adds measurements to the figures; gets a temporary folder for files.
        report: makes text and verdicts from the figures alone.
    """

    name: str
    title: str
    settings: dict[str, Any]
    measure: Callable[[Figures, Path], None]
    report: Callable[[dict[str, Any]], tuple[list[str], list[Verdict]]]


PARTS: tuple[Part, ...] = (
    Part("harness", "`run` against the bare loop", against.HARNESS, against.measure_harness, against.report_harness),
    Part("stacking", "Against StackingClassifier", against.STACKING, against.measure_stacking, against.report_stacking),
    Part("scan", "AMS scan against argsort", against.SCAN, against.measure_scan, against.report_scan),
    Part("bootstrap", "Paired bootstrap of the AMS", alone.BOOTSTRAP, alone.measure_bootstrap, alone.report_bootstrap),
    Part("reading", "Reading event files", against.READING, against.measure_reading, against.report_reading),
    Part("root", "Reading ROOT files", root.ROOT, root.measure_root, root.report_root),
    Part("again", "When everything is stored", alone.AGAIN, alone.measure_again, alone.report_again),
    Part("engines", "Engines", alone.ENGINES, alone.measure_engines, alone.report_engines),
    Part("growth", "Growth with the number of events", alone.GROWTH, alone.measure_growth, alone.report_growth),
)
"""In the order of the report; the longest last."""


HEAD = """# Speed and memory

Made by `nox -s bench`; one part by `nox -s bench -- --part NAME`. Compared programs run alternately on the same
machine; ratios are medians over pairs, with the lowest and the highest in brackets. The bounds apply to wall time.
CPU time is shown as well, because other work on the machine disturbs it less.
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.performance")
    parser.add_argument("--part", choices=[p.name for p in PARTS], action="append", help="measure this part again")
    parser.add_argument("--output", type=Path, default=Path("build/performance"), help="folder for raw figures (JSON)")
    options = parser.parse_args()
    report = SectionedReport(REFERENCE / "performance.md", HEAD, {p.name: p.title for p in PARTS})
    broken = 0
    for part in PARTS:
        if options.part is None or part.name in options.part:
            broken += run_part(part, options.output, report, afresh=options.part is not None)
    sys.stdout.write(f"{broken} bounds do not hold\n" if broken else "all bounds hold\n")


def run_part(part: Part, output: Path, report: SectionedReport, *, afresh: bool) -> int:
    """Measure a part, or only its missing figures, and write its section; return how many bounds do not hold."""
    figures = Figures.open(output / f"{part.name}.json", part.settings, afresh=afresh)
    if not figures.finished:
        begin = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="higgsbench-bench-") as folder:
            part.measure(figures, Path(folder))
        figures.finished = True
        figures.keep()
        sys.stderr.write(f"{part.name}: measured in {time.monotonic() - begin:.0f} s\n")
    text, verdicts = part.report(figures.content)
    busy = loads(figures.content)
    note = [f"Load average while measuring: {min(busy):.1f} to {max(busy):.1f}."] if busy else []
    report.write(part.name, [*text, "", *verdict_lines(verdicts), *note] if verdicts else [*text, "", *note])
    return sum(not verdict.holds for verdict in verdicts)


if __name__ == "__main__":
    main()
