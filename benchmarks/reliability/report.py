"""The report's sections."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import sections
from benchmarks._common import REFERENCE

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


def write_section(name: str, lines: Sequence[str]) -> None:
    """Print a section and put it into results/reference/reliability.md."""
    sections.write_section(REFERENCE / "reliability.md", _HEAD, _TITLES, name, lines)
