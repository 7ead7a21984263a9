"""python -m benchmarks.performance [--part NAME ...] [--output FOLDER]."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from benchmarks._common import REFERENCE
from benchmarks.performance.figures import Figures, verdict_lines
from benchmarks.performance.measure import loads
from benchmarks.performance.parts import PARTS, Part
from benchmarks.sections import SectionedReport

HEAD = """# Speed and memory

Made by `nox -s bench`; each part by `nox -s bench -- --part NAME`. What is compared is run in turn on the same machine;
ratios are medians over pairs, in brackets the lowest and the highest. Time of the clock decides; time of the processor
stands beside it, since other work on the machine disturbs it less.
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.performance")
    parser.add_argument("--part", choices=[p.name for p in PARTS], action="append", help="measure this part afresh")
    parser.add_argument("--output", type=Path, default=Path("build/performance"), help="raw figures as JSON")
    options = parser.parse_args()
    report = SectionedReport(REFERENCE / "performance.md", HEAD, {p.name: p.title for p in PARTS})
    broken = 0
    for part in PARTS:
        if options.part is None or part.name in options.part:
            broken += run_part(part, options.output, report, afresh=options.part is not None)
    sys.stdout.write(f"{broken} bounds do not hold\n" if broken else "all bounds hold\n")


def run_part(part: Part, output: Path, report: SectionedReport, *, afresh: bool) -> int:
    """Measure a part, or what is missing of it, and write its section; return how many bounds do not hold."""
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
