"""What the benchmarks share: the real sample where it is there, simulated events elsewhere, and where figures go."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
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
    """Time two calls in turn, so that drifts of the machine meet both; the first round is not counted."""
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
    """Print figures and keep them in results/reference/NAME.md."""
    text = "\n".join([f"# {title}", "", *lines, "", f"Measured on {machine()}.", ""])
    sys.stdout.write(text)
    REFERENCE.mkdir(parents=True, exist_ok=True)
    (REFERENCE / f"{name}.md").write_text(text)
