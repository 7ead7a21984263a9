"""What would go wrong in every fit of a run, found before the first one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from higgsbench.models.probe import RefusedParameterError, probe_parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from higgsbench.config import LoadedConfig
    from higgsbench.runs.dataset import Dataset
    from higgsbench.runs.plan import Plan

__all__ = ["check_trainable", "few_events"]

FEW = 20
"""Events of a class in a fold below which its numbers say little: the relative error of a count is then above 20%."""


def check_trainable(
    loaded: LoadedConfig,
    plan: Plan,
    dataset: Dataset,
    note: Callable[[str], object],
    known: Collection[str] = (),
) -> None:
    """Let the libraries judge the parameters that the configuration gives, a few milliseconds for each model.

    Args:
        loaded: the configuration.
        plan: its rows.
        dataset: the run's events.
        note: hears of what is legal but makes the numbers worthless.
        known: keys of units that are stored already; a model that has only these to train was judged before.

    Raises:
        ConfigError: naming the file, the line and the parameter.
    """
    seen = set()
    for index, entry in enumerate(loaded.config.models):
        rows = [i for i, row in enumerate(plan.rows) if row.label == entry.row_label]
        if all(unit.key in known for i in rows for unit in plan.units_of(i)):
            continue
        row = plan.rows[rows[0]]
        case = json.dumps([entry.model, row.params, len(row.features.columns)], sort_keys=True)
        if case in seen:
            continue
        seen.add(case)
        try:
            probe_parameters(row.spec, row.params, entry.params, row.features.columns, len(dataset.train))
        except RefusedParameterError as error:
            path: tuple[str | int, ...] = ("models", index, "params")
            raise loaded.error(path if error.parameter is None else (*path, error.parameter), str(error)) from error
    if warning := few_events(dataset):
        note(warning)


def few_events(dataset: Dataset) -> str:
    """Return a line of warning where a fold holds very few events of a class, otherwise an empty text."""
    fold = dataset.fold[0]
    for name, members in (("signal", dataset.y), ("background", ~dataset.y)):
        least = int(np.bincount(fold[members], minlength=int(fold.max()) + 1).min())
        if least < FEW:
            events = "event" if least == 1 else "events"
            return (
                f"{dataset.train.source}: a fold holds only {least} {name} {events}; below {FEW} the numbers and their "
                "errors say little (more events, or fewer folds)"
            )
    return ""
