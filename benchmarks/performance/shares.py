"""Where the time of a run goes: one process, every part of the work behind a stopwatch."""

from __future__ import annotations

import functools
import json
import sys
import time
from collections import defaultdict
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from benchmarks.performance.events import six_models, training_events
from benchmarks.performance.figures import Figures, Verdict
from benchmarks.performance.measure import command

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SETTINGS", "measure", "profiled", "report"]

SETTINGS: dict[str, Any] = {"events": [15_000, 100_000], "folds": 3}

WATCHED: tuple[tuple[str, str, str], ...] = (
    ("data", "higgsbench.runs.run", "load_dataset"),
    ("data", "higgsbench.runs.run", "save_events"),
    ("training by the libraries", "higgsbench.validation.physical", "fit_weighted"),
    ("prediction", "higgsbench.runs.unit", "block_scores"),
    ("storing models", "higgsbench.runs.models", "save_unit_model"),
    ("storing scores", "higgsbench.runs.store.RunStore", "write"),
    ("storing scores", "higgsbench.runs.store.RunStore", "read"),
    ("storing scores", "higgsbench.runs.run", "write_results"),
    ("evaluation", "higgsbench.runs.run", "assembled_row"),
    ("evaluation", "higgsbench.runs.run", "row_scores"),
    ("stack", "higgsbench.runs.run", "build_stack"),
)
"""Share, place, name: what is put behind a stopwatch. Time inside one counts to none of those around it."""

START, REST = "start-up", "everything else"


class _Stopwatches:
    """Seconds of the clock and of the processor per share; the innermost one runs."""

    def __init__(self) -> None:
        self.spent: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self._running: list[str] = []
        self._last = (time.perf_counter(), time.process_time())

    def switch(self) -> None:
        """Charge the time since the last switch to what was running."""
        now = (time.perf_counter(), time.process_time())
        spent = self.spent[self._running[-1] if self._running else REST]
        spent[0] += now[0] - self._last[0]
        spent[1] += now[1] - self._last[1]
        self._last = now

    def behind(self, share: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a function."""

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self.switch()
            self._running.append(share)
            try:
                return function(*args, **kwargs)
            finally:
                self.switch()
                self._running.pop()

        return timed


def _place(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError:
        module, _, holder = name.rpartition(".")
        return getattr(import_module(module), holder)


def profiled(config: str, output: str, target: Path) -> None:
    """Run a configuration in this process and write the seconds of each share as JSON."""
    watches = _Stopwatches()
    begin = (time.perf_counter(), time.process_time())
    from higgsbench.api.running import run

    with ExitStack() as stack:
        for share, where, name in WATCHED:
            place = _place(where)
            stack.enter_context(patch.object(place, name, watches.behind(share, getattr(place, name))))
        watches.switch()
        watches.spent.clear()
        watches.spent[START] = [time.perf_counter() - begin[0], time.process_time()]  # the interpreter's own included
        run(config, output=output, engine="serial")
        watches.switch()
    target.write_text(json.dumps(watches.spent))


def measure(figures: Figures, folder: Path) -> None:
    """Run each size once, in one process of one thread."""
    for events in SETTINGS["events"]:
        if str(events) in figures.content:
            continue
        data = training_events(events, folder)
        (folder / "six.yaml").write_text(six_models(data, SETTINGS["folds"]))
        target = folder / f"shares-{events}.json"
        cost = command(["-m", "benchmarks.performance.shares", "six.yaml", f"out-{events}", str(target)], folder)
        figures.content[str(events)] = {**cost.stored(), "shares": json.loads(target.read_text())}
        figures.keep()


def report(content: dict[str, Any]) -> tuple[list[str], list[Verdict]]:
    """Tell shares of the processor's time."""
    sizes = list(content)
    lines = [
        f"`run` of six models and their stack, preset `good`, {SETTINGS['folds']} folds, in one process; share of the "
        "time of the processor.",
        "",
        f"| | {' | '.join(f'{int(n):,} events' for n in sizes)} |",
        f"|---{'|---' * len(sizes)}|",
    ]
    names = dict.fromkeys(name for n in sizes for name in content[n]["shares"])
    totals = {n: sum(cpu for _, cpu in content[n]["shares"].values()) for n in sizes}
    first = content[sizes[0]]["shares"]
    for name in sorted(names, key=lambda name: -first.get(name, (0.0, 0.0))[1]):
        cells = [content[n]["shares"].get(name, (0.0, 0.0))[1] for n in sizes]
        shown = (f"{100 * cpu / totals[n]:.1f}% ({cpu:.1f} s)" for n, cpu in zip(sizes, cells, strict=True))
        lines.append(f"| {name} | {' | '.join(shown)} |")
    return lines, []


if __name__ == "__main__":
    profiled(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
