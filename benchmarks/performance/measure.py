"""Time of the clock and of the processor, of calls and of commands with all their processes, in turn."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks._common import ROOT

__all__ = ["Cost", "Ratio", "command", "environment_of", "in_process", "in_turn", "loads", "ratio", "summary"]


@dataclass(frozen=True)
class Cost:
    """What one run of something cost.

    Attributes:
        wall: seconds of the clock; other work on the machine lengthens them.
        cpu: seconds of the processor, all threads and processes together.
        load: load average of the last minute when it ended, to judge `wall` by.
    """

    wall: float
    cpu: float
    load: float

    def stored(self) -> dict[str, float]:
        """Return plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Ratio:
    """Median, lowest and highest of the ratios of pairs."""

    median: float
    low: float
    high: float
    pairs: int

    def __str__(self) -> str:
        spread = f" ({self.low:.2f} to {self.high:.2f})" if self.pairs > 1 else ""
        return f"{self.median:.2f}{spread}"


def in_process(function: Callable[[], object]) -> Cost:
    """Cost of a call in this process."""
    busy, begin = time.process_time(), time.perf_counter()
    function()
    wall = time.perf_counter() - begin
    return Cost(wall, time.process_time() - busy, os.getloadavg()[0])


def environment_of(folder: Path | None = None) -> dict[str, str]:
    """Environment for commands: this checkout's package, and a cache of its own where a folder is given."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    own = {} if folder is None else {"HIGGSBENCH_CACHE_DIR": str(folder / "cache")}
    return {**os.environ, "PYTHONPATH": path, **own}


def command(
    arguments: list[str], folder: Path, watch: Callable[[int], AbstractContextManager[None]] | None = None
) -> Cost:
    """Cost of `python ARGUMENTS`, with every process that it started and waited for.

    Args:
        arguments: what follows the interpreter.
        folder: working directory; its `cache` is the cache of event files.
        watch: looks at the process, given its number, while that runs; None for nobody.

    Raises:
        RuntimeError: if the command fails; with the end of what it wrote.
    """
    errors = folder / "stderr.txt"
    with errors.open("wb") as stream:
        begin = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=folder,
            env=environment_of(folder),
            stdout=subprocess.DEVNULL,
            stderr=stream,
        )
        with contextlib.nullcontext() if watch is None else watch(process.pid):
            _, status, usage = os.wait4(process.pid, 0)
            wall = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        tail = errors.read_text(errors="replace")[-2000:]
        raise RuntimeError(f"{' '.join(arguments[:4])} ... ended with {process.returncode}: {tail}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, os.getloadavg()[0])


def in_turn(calls: Mapping[str, Callable[[], Cost]], rounds: int, found: dict[str, list[dict[str, float]]],
            keep: Callable[[], None]) -> None:  # fmt: skip
    """Measure calls in turn, A B A B, so that drifts of the machine meet all of them; goes on where it stopped.

    Args:
        calls: what to measure, by name.
        rounds: how often each.
        found: costs per name so far; filled up in place.
        keep: called after each measurement, to store what there is.
    """
    for number in range(rounds):
        for name, call in calls.items():
            costs = found.setdefault(name, [])
            if len(costs) == number:
                costs.append(call().stored())
                keep()


def ratio(ours: list[dict[str, float]], theirs: list[dict[str, float]], kind: str = "wall") -> Ratio:
    """Ratio of two measured in turn, pair by pair.

    Args:
        ours: costs, one per round.
        theirs: costs of the other, one per round.
        kind: `wall` or `cpu`.
    """
    values = [a[kind] / b[kind] for a, b in zip(ours, theirs, strict=True)]
    return Ratio(statistics.median(values), min(values), max(values), len(values))


def summary(costs: list[dict[str, float]], digits: int = 1) -> str:
    """Write median seconds of the clock and of the processor."""
    wall, cpu = (statistics.median(c[kind] for c in costs) for kind in ("wall", "cpu"))
    return f"{wall:.{digits}f} s ({cpu:.{digits}f} s of processor)"


def loads(content: Any) -> list[float]:
    """Return all load averages in stored figures, whatever their nesting."""
    if isinstance(content, dict):
        own = [float(content["load"])] if "load" in content else []
        return own + [x for value in content.values() for x in loads(value)]
    return [x for value in content for x in loads(value)] if isinstance(content, list) else []
