"""How much memory a run needs, whether it has it, and which rows train from disk for want of it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from higgsbench.config.model import format_size, parse_size
from higgsbench.errors import ConfigError
from higgsbench.runs.plan import make_plan

if TYPE_CHECKING:
    from collections.abc import Collection

    from higgsbench.config import LoadedConfig, RunConfig
    from higgsbench.runs.dataset import Dataset
    from higgsbench.runs.plan import Plan, Row

__all__ = [
    "MemoryNeed",
    "available_memory",
    "check_simulation",
    "fit_to_memory",
    "memory_limit",
    "memory_need",
]

SHARE = 0.8
"""Share of what is available that a run takes where the configuration gives no limit."""

PARENT, WORKER = 300e6, 260e6
"""Bytes of a process that has imported everything and holds no events (results/reference/memory.md)."""

_PER_EVENT = 300.0
"""Bytes of the main process per event: number, label, weight, subset, group, fold and what they are made from."""

_PER_SIMULATED = 600.0
"""Bytes of the main process per simulated event: the table and a copy of it, as measured up to 600,000 events."""

_PER_SCORE = 24.0
"""Bytes of the main process per event, repeat and row: the score, and copies while rows are written."""

_DISK_PER_EVENT, _DISK_BLOCK = 80.0, 8e6
"""Training from disk: bytes per event for labels, weights, gradients and positions; bytes per column for the blocks of
rows on their way from the matrix to the library, and its sample for the bins."""

_DISK_PER_VALUE = {"lightgbm": 1.8, "xgboost": 3.7, "catboost": 10.4}
"""Bytes per value of the matrix besides, as measured between 800,000 and 1.6 million events; 4 for other models."""


@dataclass(frozen=True)
class MemoryNeed:
    """Predicted peak of the processes of a run, in bytes.

    Attributes:
        main: the process that plans and collects.
        unit: a process that fits a unit, for each row.
        processes: how many of them there are at a time; 1 fits in the main process, 0 where others fit.
    """

    main: float
    unit: tuple[float, ...]
    processes: int

    def of(self, row: int) -> float:
        """All processes together while every one of them fits the row."""
        if self.processes == 1:
            return self.main + self.unit[row] - WORKER
        return self.main + self.processes * self.unit[row]

    @property
    def total(self) -> float:
        """The most that the processes need together."""
        return max(self.of(row) for row in range(len(self.unit)))


def memory_need(plan: Plan, dataset: Dataset, config: RunConfig, jobs: int, events: int | None = None) -> MemoryNeed:
    """Predict the memory of a run.

    Args:
        plan: rows and units.
        dataset: the run's events.
        config: the run's configuration.
        jobs: number of worker processes on this machine.
        events: number of training events to predict for; those of the data by default.
    """
    n = len(dataset.train) if events is None else events
    test = (0 if dataset.test is None else len(dataset.test)) * n / len(dataset.train)
    rows = len(plan.rows) + 1
    main = PARENT + _PER_EVENT * (n + test) + _PER_SCORE * rows * (n * config.repeats + test)
    train = n if config.test_prediction == "refit" else n - n // config.folds
    # A worker holds the scores that it sends back, and copies of labels and weights.
    unit = tuple(WORKER + 60.0 * n + 16.0 * test + _fit(row, train) for row in plan.rows)
    return MemoryNeed(main, unit, min(jobs, len(plan.units)))


def _fit(row: Row, events: int) -> float:
    """Bytes of one fit beside what the process holds anyhow."""
    columns = len(row.features.columns)
    if row.from_disk:
        values = _DISK_PER_VALUE.get(row.spec.name, 4.0) * events * columns
        return _DISK_PER_EVENT * events + _DISK_BLOCK * columns + values
    spec = row.spec
    copies = spec.memory(row.params, events, columns) if callable(spec.memory) else spec.memory
    return copies * 4.0 * events * columns


def available_memory() -> int:
    """Bytes that new processes may take: of the machine, and of the group that the system confines this process to."""
    import psutil

    free = int(psutil.virtual_memory().available)
    for limit, used in _control_groups():
        try:
            most, now = limit.read_text().strip(), int(used.read_text())
        except (OSError, ValueError):
            continue
        if most.isdigit():
            free = min(free, max(0, int(most) - now))
    return free


def _control_groups() -> list[tuple[Path, Path]]:
    """Files with the limit and the use of memory, of version 2 and 1 of Linux's control groups."""
    root = Path("/sys/fs/cgroup")
    pairs = [(root / "memory/memory.limit_in_bytes", root / "memory/memory.usage_in_bytes")]
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return pairs
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            folder = root / path.lstrip("/")
            pairs.append((folder / "memory.max", folder / "memory.current"))
        elif "memory" in controllers.split(","):
            folder = root / "memory" / path.lstrip("/")
            pairs.append((folder / "memory.limit_in_bytes", folder / "memory.usage_in_bytes"))
    return pairs


def memory_limit(config: RunConfig) -> int:
    """Bytes that a run may take: the configuration's `memory_limit`, otherwise a share of what is available."""
    return parse_size(config.memory_limit) if config.memory_limit else int(SHARE * available_memory())


def check_simulation(config: RunConfig) -> None:
    """Refuse more simulated events than memory holds, before any is simulated.

    Raises:
        ConfigError: with the numbers.
    """
    if config.data.source != "simulated" or config.data.events is None:
        return
    need = _PER_SIMULATED * config.data.events
    limit, source = available_memory(), "the available memory"
    if config.memory_limit:
        limit, source = parse_size(config.memory_limit), "memory_limit"
    if need > limit:
        raise ConfigError(
            f"data.events: {config.data.events:,} simulated events need about {format_size(need)} of memory "
            f"({_PER_SIMULATED:.0f} bytes each); {source} is {format_size(limit)}: take at most "
            f"{int(limit / _PER_SIMULATED):,}, or write a file with `higgsbench data simulate` and train from that"
        )


def fit_to_memory(
    loaded: LoadedConfig, plan: Plan, dataset: Dataset, jobs: int, known: Collection[str] = ()
) -> tuple[Plan, list[str]]:
    """Let rows train from disk that would not fit into memory otherwise, before anything is trained.

    Args:
        loaded: validated configuration.
        plan: its plan, all in memory.
        dataset: the run's events.
        jobs: number of worker processes.
        known: keys of units that are stored already; a row of these needs nothing.

    Returns:
        The plan, and what to tell the user.

    Raises:
        ConfigError: with the numbers, if a row fits neither way.
    """
    limit = memory_limit(loaded.config)
    need = memory_need(plan, dataset, loaded.config, jobs)
    waiting = [i for i in range(len(plan.rows)) if any(u.key not in known for u in plan.units_of(i))]
    large = [i for i in waiting if need.of(i) > limit]
    disk = dataclasses.replace(plan, rows=tuple(dataclasses.replace(row, from_disk=True) for row in plan.rows))
    less = memory_need(disk, dataset, loaded.config, jobs)
    able = [i for i in large if plan.rows[i].spec.from_disk is not None and less.of(i) < need.of(i)]
    chosen = make_plan(loaded, dataset, [plan.rows[i].name for i in able]) if able else plan
    need_then = memory_need(chosen, dataset, loaded.config, jobs)
    for i in large:
        if need_then.of(i) > limit:
            raise ConfigError(_refusal(chosen, i, need_then, limit, dataset, loaded.config))
    devices = dict.fromkeys(row.device_note for row in plan.rows if row.device_note)
    return chosen, [*devices, *(_note(plan.rows[i], need.of(i), limit) for i in able)]


def _note(row: Row, need: float, limit: int) -> str:
    return f"{row.name}: trained from disk; in memory it needs about {format_size(need)} of {format_size(limit)}"


def _refusal(plan: Plan, index: int, need: MemoryNeed, limit: int, dataset: Dataset, config: RunConfig) -> str:
    """One line: what is needed for what, what there is, and what would help."""
    row = plan.rows[index]
    processes = "1 process" if need.processes == 1 else f"{need.processes} processes"
    what = f"{len(dataset.train):,} events x {len(row.features.columns)} features x {processes}"
    how = " even from disk" if row.from_disk else ""
    fewer = [k for k in range(1, need.processes) if MemoryNeed(need.main, need.unit, k).of(index) <= limit]
    if fewer:
        advice = f"use --jobs {fewer[-1]}, or fewer events or features"
    elif row.from_disk or need.main > limit:
        advice = "take fewer events or features, or a larger machine"
    else:
        advice = "take fewer events or features, or leave this model out"
    if config.memory_limit:
        advice += ", or raise --memory-limit"
    source = "memory_limit" if config.memory_limit else f"{SHARE:.0%} of the available memory (see memory_limit)"
    return (
        f"{row.name}: needs about {format_size(need.of(index))}{how} for {what}; {source} is {format_size(limit)}: "
        f"{advice}"
    )
