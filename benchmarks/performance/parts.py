"""The parts of the suite: what each measures, and how it is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.performance import (
    engines,
    evaluation,
    growth,
    harness,
    reading,
    scan,
    second_run,
    shares,
    sklearn_stack,
)
from benchmarks.performance.figures import Figures, Verdict

__all__ = ["PARTS", "Part"]


@dataclass(frozen=True)
class Part:
    """One part.

    Attributes:
        name: for `--part`.
        title: heading of its section.
        settings: sizes and rounds; figures of other settings are not reused.
        measure: measures into the figures, in a folder of its own for files.
        report: text and verdicts, from the figures alone.
    """

    name: str
    title: str
    settings: dict[str, Any]
    measure: Callable[[Figures, Path], None]
    report: Callable[[dict[str, Any]], tuple[list[str], list[Verdict]]]


PARTS: tuple[Part, ...] = (
    Part("harness", "`run` against the bare loop", harness.SETTINGS, harness.measure, harness.report),
    Part("stacking", "Against StackingClassifier", sklearn_stack.SETTINGS, sklearn_stack.measure, sklearn_stack.report),
    Part("scan", "AMS scan against argsort", scan.SETTINGS, scan.measure, scan.report),
    Part("bootstrap", "Paired bootstrap of the AMS", evaluation.SETTINGS, evaluation.measure, evaluation.report),
    Part("reading", "Reading event files", reading.SETTINGS, reading.measure, reading.report),
    Part("again", "Nothing to do", second_run.SETTINGS, second_run.measure, second_run.report),
    Part("shares", "Where the time goes", shares.SETTINGS, shares.measure, shares.report),
    Part("engines", "Engines", engines.SETTINGS, engines.measure, engines.report),
    Part("growth", "Growth with the number of events", growth.SETTINGS, growth.measure, growth.report),
)
"""In the order of the report; the longest last."""
