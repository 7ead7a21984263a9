"""The points of a learning curve as one run: every model on every number of training events, in several draws."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from higgsbench.config.training import TrainingEvents
from higgsbench.errors import ConfigError, shortened
from higgsbench.runs.artifacts import folder_name
from higgsbench.runs.cost import summed
from higgsbench.runs.dataset import load_dataset
from higgsbench.runs.plan import check_training_events, make_plan

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from higgsbench.config.load import LoadedConfig
    from higgsbench.runs.cost import Forecast
    from higgsbench.runs.dataset import Dataset

CURVE = "curve"
"""Folder inside a run's folder that holds the runs of its learning curve."""

_MOST, _SMALLEST = 6, 250
"""Sizes of the default series, and its smallest number of events."""


class Point(NamedTuple):
    """A number of training events, and the number of the draw."""

    events: int
    draw: int

    def named(self, row: str) -> str:
        """Return the name that a row of the configuration, or a label, has at this point."""
        label, bracket, variant = row.partition(" [")
        return f"{label} n{self.events}.{self.draw}{bracket}{variant}"


@dataclass(frozen=True)
class CurvePlan:
    """What a learning curve trains.

    Attributes:
        loaded: configuration of one run with all points.
        folder: folder of the run of the given configuration, whether it exists or not.
        rows: names of the rows of the given configuration.
        points: all points, ascending; the last ones have all training events if the user asked for these.
        full: number of training events without a limit.
    """

    loaded: LoadedConfig
    folder: Path
    rows: tuple[str, ...]
    points: tuple[Point, ...]
    full: int

    def named(self, row: str, point: Point) -> str:
        """Return the name that a row has in the run of all points."""
        return row if point.events == self.full else point.named(row)


def plan_curve(loaded: LoadedConfig, output: Path, sizes: Sequence[str], repeats: int) -> CurvePlan:
    """Plan a learning curve.

    Args:
        loaded: configuration whose layout is known; see `higgsbench.config.load.with_layout`.
        output: folder that holds the runs.
        sizes: numbers of training events, shares such as `0.1` or `10%`, or `all`; empty for a series of halves.
        repeats: number of draws of each size; all training events are one draw.

    Raises:
        HiggsbenchError: for bad configuration, data or sizes.
    """
    config = loaded.config
    for index, entry in enumerate(config.models):
        if entry.training_events is not None:
            raise loaded.error(("models", index, "training_events"), "a learning curve sets this key; remove it")
    dataset = load_dataset(config)
    plan = make_plan(loaded, dataset)
    split = any(row.variant == "jets" for row in plan.rows)
    full = dataset.training_size
    numbers = _numbers(sizes, dataset, split) if sizes else _halves(dataset, split)
    points = tuple(Point(number, draw) for number in numbers for draw in range(repeats if number < full else 1))
    found = CurvePlan(loaded, output / folder_name(plan), tuple(row.name for row in plan.rows), points, full)
    # Point by point, so that the first entries, which errors name, have the positions that they have in the file.
    models = [
        entry
        if point.events == full
        else entry.model_copy(
            update={
                "label": point.named(entry.row_label),
                "training_events": TrainingEvents(number=point.events, draw=point.draw),
            }
        )
        for point in points
        for entry in config.models
    ]
    members = [found.named(name, points[-1]) for name in config.stack.members or found.rows]
    stack = config.stack.model_copy(update={"members": members})
    changed = loaded.changed(models=models, stack=stack, store_models=False)
    return CurvePlan(changed, found.folder, found.rows, points, full)


def forecast_by_size(found: Forecast, plan: CurvePlan) -> Forecast:
    """Add up what is predicted for all rows and draws of each number of training events."""
    sizes = {plan.named(row, point): point.events for point in plan.points for row in plan.rows}
    rows = []
    for events in dict.fromkeys(point.events for point in plan.points):
        own = [row for row in found.rows if sizes[row.name] == events]
        rows.append(summed(f"{events:,} events", own))
    return replace(found, rows=tuple(rows))


def _halves(dataset: Dataset, split: bool) -> list[int]:
    """Return all training events, half of them, a quarter, and so on, ascending."""
    numbers = [dataset.training_size]
    while len(numbers) < _MOST and numbers[-1] // 2 >= _SMALLEST:
        try:
            check_training_events(numbers[-1] // 2, dataset, split)
        except ConfigError:
            break
        numbers.append(numbers[-1] // 2)
    return numbers[::-1]


def _numbers(sizes: Sequence[str], dataset: Dataset, split: bool) -> list[int]:
    """Turn sizes as the user wrote them into numbers of events, ascending."""
    full, numbers = dataset.training_size, set[int]()
    for text in sizes:
        number = full if text == "all" else _number(text, full)
        if number != full:
            try:
                check_training_events(number, dataset, split)
            except ConfigError as error:
                raise ConfigError(f"--sizes {shortened(text)}: {str(error).partition(': ')[2]}") from error
        numbers.add(number)
    if len(numbers) < 2:
        raise ConfigError(f"--sizes {', '.join(sizes)}: a curve needs two or more different numbers of events")
    return sorted(numbers)


def _number(text: str, full: int) -> int:
    """Return a number of events, given as such or as a share of all training events."""
    if re.fullmatch(r"[0-9]{1,12}", text) and text != "1":
        return int(text)
    share = re.fullmatch(r"(\d*\.?\d+)(%?)", text)
    value = float(share[1]) / (100.0 if share[2] else 1.0) if share else 0.0
    if not 0.0 < value <= 1.0:
        raise ConfigError(
            f"--sizes {shortened(text)}: expected a number of events (2000), a share of the training events (0.1 or "
            "10%), or all"
        )
    return round(value * full)
