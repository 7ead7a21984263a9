"""The report's sections."""

from __future__ import annotations

from benchmarks._common import REFERENCE
from benchmarks.sections import SectionedReport

__all__ = ["write_section"]

_TITLES = {
    "kills": "Killed runs",
    "dask": "Killed Dask workers and schedulers",
    "storage": "Disks, permissions, clocks and damaged files",
    "concurrency": "Several runs at once",
    "input": "Bad input",
    "guided": "Bad input, guided by what it reaches",
}
_HEAD = (
    "# Reliability\n\nMade by `nox -s bench-reliability`, part by part. "
    "[docs/durability.md](../../docs/durability.md) says what is promised.\n"
)

write_section = SectionedReport(REFERENCE / "reliability.md", _HEAD, _TITLES).write
