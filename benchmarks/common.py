"""Code that the benchmarks share: events, the machine, the AMS at 10-20%, and reports in sections."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from higgsbench.events import Events, load_events
from higgsbench.events.simulate import SimulationSettings, simulated_events
from higgsbench.metrics import ams_scan, evaluation_weights
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
    cores = "1 core" if found["cores"] == 1 else f"{found['cores']} cores"
    return f"{found['processor']}, {cores}, {found['memory_gb']:.0f} GB, Python {found['python']}"


def band_ams(y: NDArray[np.bool_], score: NDArray[np.float64], weight: NDArray[np.float64]) -> float:
    """AMS averaged over the cuts that select 10 to 20% of the events: a less noisy figure than the AMS at one cut."""
    curve = ams_scan(y, score, weight)
    return float(curve.ams[(curve.fraction > 0.1) & (curve.fraction < 0.2)].mean())


def band_replicas(
    y: NDArray[np.bool_], scores: Sequence[NDArray[np.float64]], weight: NDArray[np.float64], replicas: int
) -> NDArray[np.float64]:
    """`band_ams` of each row: first for the events as they are, then for Poisson bootstrap replicas of them."""
    rng = np.random.default_rng(0)
    totals = float(weight[y].sum()), float(weight[~y].sum())
    found = [[band_ams(y, score, weight) for score in scores]]
    for _ in range(replicas):
        rows = np.repeat(np.arange(y.size), rng.poisson(1.0, size=y.size))
        drawn = evaluation_weights(y[rows], weight[rows], *totals)
        found.append([band_ams(y[rows], score[rows], drawn) for score in scores])
    return np.array(found)


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
