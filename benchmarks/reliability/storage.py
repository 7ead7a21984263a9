"""Full and read-only disks, missing permissions, a clock that is set back, and files that are damaged."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.reliability import damage, refusals, small
from benchmarks.reliability.report import write_section

__all__ = ["main"]


def main() -> None:
    """Try everything and write the section."""
    with tempfile.TemporaryDirectory(prefix="higgsbench-storage-") as name:
        folder = Path(name)
        config = small.prepare(folder)
        whole = small.resume(config, folder / "whole").folder
        lines = [*refusals.lines(config, whole, folder), "", *damage.lines(config, whole, folder)]
    write_section("storage", lines)
