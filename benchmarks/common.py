"""Code that the benchmarks share: events, the machine, alternating timings, and reports in sections."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from higgsbench.events import Events, load_events
from higgsbench.events.simulate import SimulationSettings, simulated_events
from higgsbench.metrics import ams_scan
from higgsbench.runs.environment import environment

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "../shared/data/atlas-higgs-challenge-2014-v2-sample.csv.gz"
REFERENCE = ROOT / "results" / "reference"


def sample_events() -> tuple[Events, str]:
    """Return the 15,000 real events, or as many simulated ones, and their name."""
    if SAMPLE.is_file():
        return load_events(SAMPLE), "15,000 real events"
    settings = SimulationSettings(events=15_000, seed=1, set_proportions={"t": 1.0})
    return simulated_events(settings), "15,000 simulated events"


def machine() -> str:
    """Name the machine a figure was measured on."""
    found = environment()
    return f"{found['processor']}, {found['cores']} cores, {found['memory_gb']:.0f} GB, Python {found['python']}"


def timed(function: Callable[[], object]) -> float:
    """Wall time of one call in seconds."""
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def in_turn(a: Callable[[], object], b: Callable[[], object], rounds: int) -> tuple[list[float], list[float]]:
    """Time two calls alternately, so that changes in speed affect both; the first round is not counted."""
    pairs = [(timed(a), timed(b)) for _ in range(rounds + 1)][1:]
    return [x for x, _ in pairs], [y for _, y in pairs]


def band_ams(y: NDArray[np.bool_], score: NDArray[np.float64], weight: NDArray[np.float64]) -> float:
    """AMS averaged over the cuts that select 10 to 20% of the events: a less noisy figure than the AMS at one cut."""
    curve = ams_scan(y, score, weight)
    return float(curve.ams[(curve.fraction > 0.1) & (curve.fraction < 0.2)].mean())


def median(values: list[float]) -> float:
    """Median."""
    return sorted(values)[len(values) // 2]


def publish(name: str, title: str, lines: list[str]) -> None:
    """Print figures and store them in results/reference/NAME.md."""
    text = "\n".join([f"# {title}", "", *lines, "", f"Measured on {machine()}.", ""])
    sys.stdout.write(text)
    REFERENCE.mkdir(parents=True, exist_ok=True)
    (REFERENCE / f"{name}.md").write_text(text)


_SECTION = re.compile(r"<!-- (\w+) -->\n(.*?)\n<!-- end -->", flags=re.DOTALL)


@dataclass(frozen=True)
class SectionedReport:
    """A Markdown file whose sections are written one by one.

    Attributes:
        file: the file.
        head: text above the first section.
        titles: heading of each section by its name, in the order of the file.
    """

    file: Path
    head: str
    titles: Mapping[str, str]

    def write(self, name: str, lines: list[str]) -> None:
        """Print a section with the machine's name and write it to the file.

        Args:
            name: a key of `titles`.
            lines: the section without its heading.
        """
        text = "\n".join([*lines, "", f"Measured on {machine()}."])
        sys.stdout.write(f"## {self.titles[name]}\n\n{text}\n\n")
        found = self._sections()
        found[name] = text
        body = [
            f"## {title}\n\n<!-- {key} -->\n{found[key]}\n<!-- end -->\n"
            for key, title in self.titles.items()
            if key in found
        ]
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text("\n".join([self.head, *body]))

    def _sections(self) -> dict[str, str]:
        if not self.file.is_file():
            return {}
        return {m[1]: m[2] for m in _SECTION.finditer(self.file.read_text())}
