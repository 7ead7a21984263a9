"""Put the events of a run where the workers find them."""

from __future__ import annotations

import contextlib
import tempfile
from typing import TYPE_CHECKING

import numpy as np

from higgsbench.errors import StoreError
from higgsbench.features import feature_matrix
from higgsbench.files import temporary_prefix
from higgsbench.runs.unit import Task

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from higgsbench.config import RunConfig
    from higgsbench.events import Events
    from higgsbench.features import Features
    from higgsbench.runs.dataset import Dataset
    from higgsbench.runs.plan import Plan, Unit
    from higgsbench.runs.unit import Workspace

__all__ = ["save_events", "task_of", "working_folder"]


def working_folder(shared: Path | None) -> tempfile.TemporaryDirectory[str]:
    """Make the folder of the workspace: in the system's place for temporary files, or in one that machines share.

    Raises:
        StoreError: if the disk refuses.
    """
    try:
        if shared is not None:
            return tempfile.TemporaryDirectory(prefix=temporary_prefix(), dir=shared)
        return tempfile.TemporaryDirectory(prefix="higgsbench-")
    except OSError as error:
        raise StoreError(f"no folder for the workers' copy of the events: {error.strerror}; set TMPDIR") from error


def save_events(workspace: Workspace, dataset: Dataset, features: Iterable[Features]) -> None:
    """Write labels, weights, folds, groups and one matrix per choice of features, the matrices part by part.

    Raises:
        StoreError: if the disk refuses.
    """
    try:
        _save_events(workspace, dataset, features)
    except OSError as error:
        why = error.strerror or "no space is left"
        raise StoreError(
            f"{workspace.folder}: the workers' copy of the events cannot be written: {why}; set TMPDIR"
        ) from error


def _save_events(workspace: Workspace, dataset: Dataset, features: Iterable[Features]) -> None:
    train, test = dataset.train, dataset.test
    workspace.save("y", dataset.y)
    workspace.save("weight", dataset.weight)
    workspace.save("fold", dataset.fold)
    numbers = train.group
    workspace.save("group", np.zeros(len(train), np.int64) if numbers is None else numbers)
    choices = {f.digest: f for f in features}
    _save_matrices(workspace, train, {f"X-{digest}": choice for digest, choice in choices.items()})
    if test is not None:
        numbers = test.group
        workspace.save("test_group", np.zeros(len(test), np.int64) if numbers is None else numbers)
        _save_matrices(workspace, test, {f"T-{digest}": choice for digest, choice in choices.items()})


def _save_matrices(workspace: Workspace, events: Events, choices: Mapping[str, Features]) -> None:
    """Write matrices by name in one pass over the events; features are elementwise, so parts give the same bits."""
    with contextlib.ExitStack() as stack:
        files = {
            name: stack.enter_context(workspace.matrix(name, (len(events), len(choice.columns))))
            for name, choice in choices.items()
        }
        for part in events.batches():
            for name, choice in choices.items():
                files[name].write(feature_matrix(part, choice).data)


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
        from_disk=row.from_disk,
        name=f"{row.name}, {'refit' if unit.fold < 0 else f'fold {unit.fold}'}, repeat {unit.repeat}",
    )
