"""AMS scan of ten million events against numpy's argsort of the same scores."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.performance.figures import Figures, Verdict
from benchmarks.performance.measure import in_process, in_turn, ratio, summary
from higgsbench.metrics import ams_scan, evaluation_weights
from higgsbench.schema import N_B, N_S

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["SETTINGS", "measure", "report"]

SETTINGS = {"events": 10_000_000, "rounds": 5}


def measure(figures: Figures, folder: Path) -> None:
    """Time both in turn, after one call of each that is not counted."""
    n = SETTINGS["events"]
    rng = np.random.default_rng(0)
    y = rng.random(n) < 0.34
    score = rng.normal(size=n) + y
    weight = evaluation_weights(y, rng.random(n), N_S, N_B)
    calls: dict[str, Callable[[], object]] = {
        "scan": lambda: ams_scan(y, score, weight),
        "argsort": lambda: np.argsort(score),
    }
    for call in calls.values():
        call()
    timed = {name: functools.partial(in_process, call) for name, call in calls.items()}
    in_turn(timed, SETTINGS["rounds"], figures.content, figures.keep)


def report(content: dict[str, Any]) -> tuple[list[str], list[Verdict]]:
    """Tell times and ratios."""
    ours, theirs = content["scan"], content["argsort"]
    wall, cpu = ratio(ours, theirs), ratio(ours, theirs, "cpu")
    text = (
        f"Scan of {SETTINGS['events']:,} events with the whole curve: {summary(ours, 2)}. `numpy.argsort` of the same "
        f"scores: {summary(theirs, 2)}. Ratio on the clock {wall}, of the processor {cpu}, {wall.pairs} pairs."
    )
    return [text], [Verdict("scan over argsort", wall.median, 1.5, cpu=cpu.median)]
