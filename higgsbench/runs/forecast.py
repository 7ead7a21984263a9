"""What a run will cost before it is begun, and how it is cut down to a time limit."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from higgsbench.config import LoadedConfig
from higgsbench.errors import ConfigError
from higgsbench.models.spec import BAG
from higgsbench.runs.budget import TimeBudget
from higgsbench.runs.cost import Calibration, calibrate, events_of_unit
from higgsbench.runs.durations import format_duration
from higgsbench.runs.fitting import RowNeed, fit_to_limit, makespan
from higgsbench.runs.memory import memory_need
from higgsbench.runs.plan import make_plan
from higgsbench.runs.store import RunStore

if TYPE_CHECKING:
    from pathlib import Path

    from higgsbench.config import RunConfig
    from higgsbench.runs.dataset import Dataset
    from higgsbench.runs.plan import Plan, Row

__all__ = ["Forecast", "RowForecast", "forecast", "within_limit"]

_JETS_WORTH = 0.8
"""Worth of a row split by jet number where the same model's global row is there too."""

_CALIBRATION_SHARE, _CALIBRATION_SECONDS = 0.05, 10.0
_WORKER_START = 3.0
"""Seconds until worker processes have imported the libraries."""


@dataclass(frozen=True)
class RowForecast:
    """Prediction for one row.

    Attributes:
        name: the row.
        units: number of its fits.
        stored: how many of them are already there.
        bag: seeds per fit.
        seconds: predicted seconds of one fit.
        total: predicted seconds of those that are not stored, on one core.
    """

    name: str
    units: int
    stored: int
    bag: int
    seconds: float
    total: float


@dataclass(frozen=True)
class Forecast:
    """Prediction for a run.

    Attributes:
        rows: its rows, in the order of the configuration.
        events: number of training events.
        seconds: predicted wall time.
        memory_mb: predicted peak memory of all processes together, in MB.
        calibration_seconds: how long the measurement took.
    """

    rows: tuple[RowForecast, ...]
    events: int
    seconds: float
    memory_mb: float
    calibration_seconds: float


def forecast(
    plan: Plan, dataset: Dataset, config: RunConfig, output: Path, jobs: int, events: int | None = None
) -> Forecast:
    """Predict a run from a few short fits; nothing is stored.

    Args:
        plan: rows and units.
        dataset: the run's events.
        config: the run's configuration.
        output: folder that holds the runs; what is stored there costs nothing.
        jobs: number of worker processes.
        events: number of training events to predict for; those of the data by default. With another number nothing
            counts as stored, and held-out events grow in proportion.
    """
    calibration = calibrate(plan, dataset, config, float("inf"))
    known = stored_keys(output) if events is None else set()
    rows, fits = [], []
    for index, row in enumerate(plan.rows):
        units = plan.units_of(index)
        seconds = _seconds(plan, index, dataset, config, calibration, events) * _bag(row)
        stored = sum(unit.key in known for unit in units)
        rows.append(RowForecast(row.name, len(units), stored, _bag(row), seconds, seconds * (len(units) - stored)))
        fits += [seconds] * (len(units) - stored)
    n = len(dataset.train) if events is None else events
    wall = makespan(sorted(fits, reverse=True), jobs) + calibration.assembly * n * (len(rows) + 2)
    return Forecast(tuple(rows), n, wall, memory_need(plan, dataset, config, jobs, n).total / 1e6, calibration.spent)


def within_limit(
    loaded: LoadedConfig, plan: Plan, dataset: Dataset, output: Path, jobs: int, limit: float, begin: float
) -> tuple[LoadedConfig, Plan, TimeBudget, list[str]]:
    """Cut a run down to a time limit.

    Args:
        loaded: validated configuration.
        plan: its plan.
        dataset: its events.
        output: folder that holds the runs; what is stored there costs nothing.
        jobs: number of worker processes.
        limit: seconds.
        begin: when they began, `time.monotonic`.

    Returns:
        The configuration and plan with bags as large as fit, who hands out the units, and what to tell the user.

    Raises:
        ConfigError: if not even one row fits.
    """
    config = loaded.config
    allowance = min(_CALIBRATION_SECONDS, _CALIBRATION_SHARE * limit)
    calibration = calibrate(plan, dataset, config, allowance)
    known = stored_keys(output)
    needs = [_need(plan, i, dataset, config, calibration, known) for i in range(len(plan.rows))]
    per_row = calibration.assembly * len(dataset.train)
    left = limit - (time.monotonic() - begin) - 2 * per_row - (_WORKER_START if jobs > 1 else 0.0)
    choice = fit_to_limit(needs, left, jobs, per_row)
    if not choice.kept:
        first = min(needs, key=lambda need: need.total(1))
        raise ConfigError(
            f"--time-limit {format_duration(limit)}: not even one row fits; the cheapest, {first.name}, is predicted "
            f"to take {format_duration(first.total(1))} besides {format_duration(limit - left)} for all else"
        )
    reduced = {need.label: need.bag for need in needs if choice.bags[need.label] < need.bag}
    notes = [f"{label}: a bag of {choice.bags[label]} instead of {full}" for label, full in reduced.items()]
    if reduced:
        loaded = _with_bags(loaded, {label: choice.bags[label] for label in reduced})
        plan = make_plan(loaded, dataset)
    seconds = {i: need.seconds * choice.bags[need.label] for i, need in enumerate(needs)}
    budget = TimeBudget(limit, begin, [*choice.kept, *choice.left_out], seconds, per_row, jobs)
    out = f", no room for {', '.join(needs[i].name for i in choice.left_out)}" if choice.left_out else ""
    what = f"time limit {format_duration(limit)}: {len(choice.kept)} of {len(needs)} rows are predicted to fit"
    return loaded, plan, budget, [f"{what} (fits {format_duration(choice.seconds)}){out}", *notes]


def stored_keys(output: Path) -> set[str]:
    """Return the keys of all finished units in a folder of runs."""
    if not output.is_dir():
        return set()
    return set().union(*(RunStore(folder).keys() for folder in output.iterdir() if folder.is_dir()))


def _bag(row: Row) -> int:
    return int(row.params.get(BAG, 1))


def _seconds(
    plan: Plan, index: int, dataset: Dataset, config: RunConfig, calibration: Calibration, events: int | None = None
) -> float:
    """Predicted seconds of the mean unit of a row, per seed."""
    units = plan.units_of(index)
    submodels = len(dataset.groups) if plan.rows[index].variant == "jets" else 1
    cost = calibration.rows[index]
    each = [cost.seconds(*events_of_unit(dataset, config, unit, events), submodels=submodels) for unit in units]
    return sum(each) / len(each)


def _need(
    plan: Plan, index: int, dataset: Dataset, config: RunConfig, calibration: Calibration, known: set[str]
) -> RowNeed:
    row = plan.rows[index]
    units = plan.units_of(index)
    pending = sum(unit.key not in known for unit in units)
    twin = any(other.label == row.label and other.variant == "global" for other in plan.rows)
    worth = row.spec.merit * (_JETS_WORTH if row.variant == "jets" and twin else 1.0)
    full = _bag(row)

    def fits(bag: int) -> int:
        return pending if bag == full else len(units)

    return RowNeed(row.name, row.label, worth, fits, _seconds(plan, index, dataset, config, calibration), full)


def _with_bags(loaded: LoadedConfig, bags: dict[str, int]) -> LoadedConfig:
    models = [
        entry.model_copy(update={"params": {**entry.params, BAG: bags[entry.row_label]}})
        if entry.row_label in bags
        else entry
        for entry in loaded.config.models
    ]
    return LoadedConfig(loaded.config.model_copy(update={"models": models}), loaded.document)
