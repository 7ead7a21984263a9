"""1,000 paired bootstrap replicas of the AMS of seven models on 250,000 events, at fixed cuts and with cuts anew."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.performance.figures import Figures, Verdict
from benchmarks.performance.measure import in_process, in_turn, summary
from benchmarks.statistics_calibration import POPULATIONS, log_odds, sample
from higgsbench.ensemble import Truth
from higgsbench.ensemble.cut import cross_validated_selection
from higgsbench.ensemble.evaluate import bootstrap_rows
from higgsbench.metrics.estimates import bootstrap_ams
from higgsbench.schema import B_REG, N_B, N_S
from higgsbench.validation import fold_assignments

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["SETTINGS", "measure", "report"]

SETTINGS = {"events": 250_000, "models": 7, "replicas": 1000, "rounds": 3}
BOUND = 20.0


def measure(figures: Figures, folder: Path) -> None:
    """Time both kinds in turn."""
    n, replicas = SETTINGS["events"], SETTINGS["replicas"]
    rng = np.random.default_rng(1)
    y, weight, scores = sample(POPULATIONS[0], n, rng)
    truth = Truth(y, weight, fold_assignments(y, None, 5, 1, 1), (N_S, N_B), B_REG, "smooth")
    moved = (scores["twin a"] + 0.3 * rng.normal(size=n) for _ in range(SETTINGS["models"]))
    rows = [(log_odds(POPULATIONS[0], score, 0.3)[None], truth) for score in moved]
    chosen = np.column_stack([cross_validated_selection(score[0], truth, 0) for score, _ in rows])
    calls = {
        "fixed": lambda: in_process(lambda: bootstrap_ams(y, chosen, weight, replicas, seed=1)),
        "anew": lambda: in_process(lambda: bootstrap_rows(rows, replicas)),
    }
    in_turn(calls, SETTINGS["rounds"], figures.content, figures.keep)


def report(content: dict[str, Any]) -> tuple[list[str], list[Verdict]]:
    """Tell times."""
    lines = [f"{SETTINGS['replicas']:,} replicas, {SETTINGS['models']} models, {SETTINGS['events']:,} events:", ""]
    names = {"fixed": "models at their cuts", "anew": "each fold's cut chosen anew in each replica, which `run` uses"}
    verdicts = []
    for kind, name in names.items():
        lines.append(f"- {name}: {summary(content[kind])}")
        wall, cpu = (statistics.median(cost[key] for cost in content[kind]) for key in ("wall", "cpu"))
        verdicts.append(Verdict(f"bootstrap, {name.split(',')[0]}", wall, BOUND, unit="s", cpu=cpu))
    return lines, verdicts
