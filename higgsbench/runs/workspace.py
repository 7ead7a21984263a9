"""Put the events of a run where the workers find them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from higgsbench.features import feature_matrix
from higgsbench.runs.unit import Task

if TYPE_CHECKING:
    from collections.abc import Iterable

    from higgsbench.config import RunConfig
    from higgsbench.features import Features
    from higgsbench.runs.dataset import Dataset
    from higgsbench.runs.plan import Plan, Unit
    from higgsbench.runs.unit import Workspace

__all__ = ["save_events", "task_of"]


def save_events(workspace: Workspace, dataset: Dataset, features: Iterable[Features]) -> None:
    """Write labels, weights, folds, groups and one matrix per choice of features."""
    train, test = dataset.train, dataset.test
    workspace.save("y", dataset.y)
    workspace.save("weight", dataset.weight)
    workspace.save("fold", dataset.fold)
    numbers = train.group
    workspace.save("group", np.zeros(len(train), np.int64) if numbers is None else numbers)
    if test is not None:
        numbers = test.group
        workspace.save("test_group", np.zeros(len(test), np.int64) if numbers is None else numbers)
    for choice in {f.digest: f for f in features}.values():
        workspace.save(f"X-{choice.digest}", feature_matrix(train.frame, choice))
        if test is not None:
            workspace.save(f"T-{choice.digest}", feature_matrix(test.frame, choice))


def task_of(unit: Unit, plan: Plan, dataset: Dataset, config: RunConfig, model_file: str | None = None) -> Task:
    """Return what a worker needs to run a unit."""
    row = plan.rows[unit.row]
    return Task(
        key=unit.key,
        spec=row.spec,
        params=row.params,
        columns=row.features.columns,
        matrix=f"X-{row.features.digest}",
        test_matrix=f"T-{row.features.digest}" if unit.predict_test else None,
        groups=dataset.groups if row.variant == "jets" else None,
        training_weights=row.training_weights,
        negative_weights=config.data.negative_weights,
        repeat=unit.repeat,
        fold=unit.fold,
        totals=dataset.totals,
        seed=unit.seed,
        threads=config.threads,
        model_file=model_file,
        name=f"{row.name}, {'refit' if unit.fold < 0 else f'fold {unit.fold}'}, repeat {unit.repeat}",
    )
