"""Measure commands and calls alternately (time, memory), store raw figures, and compare them with bounds."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, machine
from higgsbench.events.simulate import SimulationSettings, write_simulated
from higgsbench.files import write_json

SIX = ("logistic", "random_forest", "catboost", "xgboost", "lightgbm", "mlp")


def training_events(events: int, folder: Path) -> Path:
    """Write simulated events of the training set, unless the file exists; return the file."""
    file = folder / f"training-{events}.parquet"
    if not file.is_file():
        write_simulated(SimulationSettings(events=events, seed=7, set_proportions={"t": 1.0}), file, jobs=2)
    return file


def six_models(
    data: Path,
    folds: int,
    *,
    preset: str = "good",
    jet_split: str = "none",
    seed: int = 42,
    models: Sequence[str] = SIX,
) -> str:
    """Return a configuration for the six models, or others, and their stack on a file."""
    lines = [f"data: {{source: file, path: {data}}}", f"models: [{', '.join(models)}]", f"preset: {preset}"]
    lines += [f"jet_split: {jet_split}", f"folds: {folds}", f"seed: {seed}", "training_weights: balanced"]
    return "\n".join([*lines, "features: raw", "stack: nonnegative", ""])


@dataclass(frozen=True)
class Cost:
    """Cost of one run of a command or call.

    Attributes:
        wall: wall time in seconds; other work on the machine lengthens it.
        cpu: CPU time in seconds, all threads and processes together.
        load: load average of the last minute at the end, to judge `wall`.
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
    """Environment for commands: this checkout's package, and a separate cache if a folder is given."""
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
        watch: called with the process number while the process runs, or None.

    Raises:
        RuntimeError: if the command fails; with the end of its error output.
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
    """Measure calls alternately, A B A B, so that changes of the machine's speed affect all; resume where it stopped.

    Args:
        calls: what to measure, by name.
        rounds: number of measurements of each.
        found: costs per name so far; extended in place.
        keep: called after each measurement, to store the figures.
    """
    for number in range(rounds):
        for name, call in calls.items():
            costs = found.setdefault(name, [])
            if len(costs) == number:
                costs.append(call().stored())
                keep()


def in_process_in_turn(calls: Mapping[str, Callable[[], object]], rounds: int, found: dict[str, list[dict[str, float]]],
                       keep: Callable[[], None]) -> None:  # fmt: skip
    """Measure calls in this process as `in_turn` does, after one call of each that is not counted."""
    for call in calls.values():
        call()
    in_turn({name: functools.partial(in_process, call) for name, call in calls.items()}, rounds, found, keep)


def ratio(ours: list[dict[str, float]], theirs: list[dict[str, float]], kind: str = "wall") -> Ratio:
    """Ratio of two costs measured alternately, pair by pair.

    Args:
        ours: costs, one per round.
        theirs: costs of the other, one per round.
        kind: `wall` or `cpu`.
    """
    values = [a[kind] / b[kind] for a, b in zip(ours, theirs, strict=True)]
    return Ratio(statistics.median(values), min(values), max(values), len(values))


def summary(costs: list[dict[str, float]], digits: int = 1) -> str:
    """Write median wall and CPU time in seconds."""
    wall, cpu = (statistics.median(c[kind] for c in costs) for kind in ("wall", "cpu"))
    return f"{wall:.{digits}f} s ({cpu:.{digits}f} s of CPU)"


def loads(content: Any) -> list[float]:
    """Return all load averages in stored figures, at any depth."""
    if isinstance(content, dict):
        own = [float(content["load"])] if "load" in content else []
        return own + [x for value in content.values() for x in loads(value)]
    return [x for value in content for x in loads(value)] if isinstance(content, list) else []


@dataclass
class Figures:
    """Measurements of a part so far.

    Attributes:
        file: where they are stored.
        content: measured values, JSON.
        finished: whether the part is complete.
    """

    file: Path
    settings: dict[str, Any]
    content: dict[str, Any] = field(default_factory=dict)
    finished: bool = False

    @classmethod
    def open(cls, file: Path, settings: dict[str, Any], *, afresh: bool) -> Figures:
        """Resume from what is stored if it was measured with the same settings on the same machine.

        Args:
            file: where the figures are stored.
            settings: what the part measures (sizes, rounds).
            afresh: whether a finished part is measured again; an unfinished one is resumed in any case.
        """
        about = json.loads(json.dumps({**settings, "machine": machine()}))
        figures = cls(file, about)
        if file.is_file():
            stored = json.loads(file.read_text())
            if stored["settings"] == about and not (afresh and stored["finished"]):
                figures.content, figures.finished = stored["figures"], stored["finished"]
        return figures

    def keep(self) -> None:
        """Store the figures."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.file, {"settings": self.settings, "finished": self.finished, "figures": self.content})


@dataclass(frozen=True)
class Verdict:
    """A measured value against its bound.

    Attributes:
        what: what was measured.
        value: the value.
        bound: the bound.
        at_most: whether the value may not exceed the bound; otherwise it must reach it.
        unit: unit of both, empty for ratios.
        cpu: the same in CPU time, or None; it distinguishes a slow program from a busy machine.
    """

    what: str
    value: float
    bound: float
    at_most: bool = True
    unit: str = ""
    cpu: float | None = None

    @property
    def holds(self) -> bool:
        """Whether the bound holds."""
        return self.value <= self.bound if self.at_most else self.value >= self.bound

    def line(self) -> str:
        """One line of a table."""
        unit = f" {self.unit}" if self.unit else ""
        cpu = "" if self.cpu is None else f"{self.cpu:.2f}{unit}"
        side = "at most" if self.at_most else "at least"
        mark = "holds" if self.holds else "**does not hold**"
        return f"| {self.what} | **{self.value:.2f}**{unit} | {cpu} | {side} {self.bound:g}{unit} | {mark} |"


def verdict_lines(verdicts: Sequence[Verdict]) -> list[str]:
    """Table of verdicts."""
    head = ["| | wall time | CPU time | bound | |", "|---|---|---|---|---|"]
    return [*head, *(verdict.line() for verdict in verdicts), ""]


_EVERY = 0.05
"""Seconds between samples: the kernel walks all pages of a process to answer, which itself takes time."""


@dataclass
class Watched:
    """Peaks in bytes of proportional set size: memory that processes share counts once in their sum.

    Attributes:
        total: peak of the sum over all processes.
        main: peak of the process that was started.
        worker: highest peak of any of its child processes, 0 if there is none.
        processes: largest number of processes at once.
    """

    total: int = 0
    main: int = 0
    worker: int = 0
    processes: int = 0

    def sample(self, pid: int) -> None:
        """Sample a process and its children once."""
        import psutil

        try:
            below = psutil.Process(pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return
        main = _proportional(pid)
        workers = [_proportional(process.pid) for process in below]
        self.total = max(self.total, main + sum(workers))
        self.main = max(self.main, main)
        self.worker = max([self.worker, *workers])
        self.processes = max(self.processes, 1 + len(below))


def _proportional(pid: int) -> int:
    """Proportional set size of a process in bytes, 0 when it is gone."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return 1024 * int(line.split()[1])
    except (OSError, ValueError):
        pass
    return 0


def watched_command(arguments: list[str], folder: Path) -> tuple[Cost, Watched]:
    """Run `python ARGUMENTS` and return its cost and its peaks, sampled twenty times a second.

    Raises:
        RuntimeError: if the command fails; with the end of its error output.
    """
    watched, done = Watched(), threading.Event()

    def watch(process: int) -> None:
        while not done.wait(_EVERY):
            watched.sample(process)

    @contextlib.contextmanager
    def watching(process: int) -> Iterator[None]:
        watcher = threading.Thread(target=watch, args=(process,), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()

    return command(arguments, folder, watching), watched


def stored_with_peaks(cost: Cost, watched: Watched) -> dict[str, Any]:
    """Return plain values for JSON."""
    peaks = {name: getattr(watched, name) for name in ("total", "main", "worker", "processes")}
    return {**cost.stored(), **peaks}
