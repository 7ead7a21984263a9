"""The engines against each other: Dask with two workers, `local` with two processes, `serial`."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from benchmarks.performance.events import six_models, training_events
from benchmarks.performance.figures import Figures, Verdict
from benchmarks.performance.measure import Cost, command, in_turn, ratio, summary

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["SETTINGS", "measure", "report"]

SETTINGS = {"events": 15_000, "rounds": 3, "jobs": 2, "folds": 5}
ENGINES = ("local", "dask", "serial")


def measure(figures: Figures, folder: Path) -> None:
    """Run the same configuration on each engine in turn, each time from nothing."""
    data = training_events(SETTINGS["events"], folder)
    (folder / "six.yaml").write_text(six_models(data, SETTINGS["folds"]))
    jobs = str(SETTINGS["jobs"])
    command(["-m", "higgsbench", "run", "six.yaml", "--plan", "--jobs", jobs], folder)
    count = iter(range(1000))

    def on(engine: str) -> Cost:
        options = ["--engine", engine, *([] if engine == "serial" else ["--jobs", jobs])]
        output = f"out-{next(count)}"
        return command(["-m", "higgsbench", "run", "six.yaml", "--output", output, "--quiet", *options], folder)

    calls = {engine: functools.partial(on, engine) for engine in ENGINES}
    in_turn(calls, SETTINGS["rounds"], figures.content, figures.keep)


def report(content: dict[str, Any]) -> tuple[list[str], list[Verdict]]:
    """Tell times and ratios."""
    dask, serial = ratio(content["dask"], content["local"]), ratio(content["serial"], content["local"])
    times = ", ".join(f"`{engine}` {summary(content[engine])}" for engine in ENGINES)
    text = (
        f"Six models and their stack on {SETTINGS['events']:,} events, {SETTINGS['folds']} folds, {SETTINGS['jobs']} "
        f"processes or workers: {times}. Dask over "
        f"local {dask}, serial over local {serial}, {dask.pairs} rounds in turn."
    )
    cpu = ratio(content["dask"], content["local"], "cpu").median
    return [text], [
        Verdict("Dask over local", dask.median, 1.25, cpu=cpu),
        Verdict("serial over local", serial.median, 1.7, at_most=False),
    ]
