"""One work unit, as it runs in a worker process: fit on the other folds, score the held-out one."""

from __future__ import annotations

import contextlib
import functools
import tempfile
import time
import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from higgsbench.errors import StoreError
from higgsbench.features import feature_matrix
from higgsbench.files import temporary_prefix
from higgsbench.models.out_of_core import release
from higgsbench.runs.environment import give_back

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from higgsbench.config import RunConfig
    from higgsbench.events import Events
    from higgsbench.features import Features
    from higgsbench.models import ModelSpec
    from higgsbench.runs.dataset import Dataset
    from higgsbench.runs.plan import Plan, Unit

__all__ = [
    "BLOCK",
    "Task",
    "UnitResult",
    "Workspace",
    "block_scores",
    "chosen_rows",
    "mean_log_odds",
    "run_unit",
    "save_events",
    "task_of",
    "with_group",
    "working_folder",
]


BLOCK = 1 << 14
"""Events per block; part of what determines scores to the last bit."""
_RELEASE = 16
"""Blocks after which mapped pages are let go."""


def with_group(X: NDArray[np.float32], numbers: NDArray[np.int64] | None) -> NDArray[np.float32]:
    """Append the group number as the last column, where the model is split by it."""
    return X if numbers is None else np.column_stack([X, numbers.astype(np.float32)])


def chosen_rows(
    X: NDArray[np.float32], rows: NDArray[np.int64], numbers: NDArray[np.int64] | None
) -> NDArray[np.float32]:
    """Copy some rows of a matrix, with the group number as the last column where the model is split by it.

    Args:
        X: (n, p) features, perhaps mapped from a file, whose pages are then handed back to the system.
        rows: (k,) positions of the rows.
        numbers: (n,) group numbers, or None.

    Returns:
        (k, p) or (k, p + 1) rows, the only copy that is made.
    """
    p = X.shape[1]
    out = np.empty((rows.size, p + (numbers is not None)), dtype=np.float32)
    for first in range(0, rows.size, BLOCK):
        block = rows[first : first + BLOCK]
        out[first : first + BLOCK, :p] = X[block]
        if numbers is not None:
            out[first : first + BLOCK, p] = numbers[block]
        if first // BLOCK % _RELEASE == 0:
            release(X)
    release(X)
    return out


def block_scores(
    estimator: Any,
    X: NDArray[np.float32],
    numbers: NDArray[np.int64] | None,
    chosen: NDArray[np.int64] | None = None,
) -> NDArray[np.float64]:
    """Return the log-odds of events, block by block.

    Args:
        estimator: a fitted meta-estimator.
        X: (n, p) features, perhaps mapped from a file.
        numbers: (n,) group numbers where the model is split by them, otherwise None.
        chosen: (k,) positions of the events to score, None for all.

    Returns:
        (k,) or (n,) scores.
    """
    size = X.shape[0] if chosen is None else chosen.size
    scores = np.empty(size)
    for first in range(0, size, BLOCK):
        at = slice(first, first + BLOCK)
        rows = at if chosen is None else chosen[at]
        part = None if numbers is None else np.asarray(numbers[rows])
        scores[at] = estimator.decision_function(with_group(np.asarray(X[rows]), part))
        if first // BLOCK % _RELEASE == 0:
            release(X)
    release(X)
    return scores


def mean_log_odds(scores: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the mean (n,) of the fold models' scores, added in order so that every event rounds alike."""
    total = scores[0].copy()
    for more in scores[1:]:
        total += more
    total /= len(scores)
    return total


@dataclass(frozen=True)
class Workspace:
    """Arrays of a run as .npy files, which every worker maps into memory instead of receiving copies.

    Attributes:
        folder: where the files are.
    """

    folder: str

    def save(self, name: str, values: NDArray[Any]) -> None:
        """Write an array under a name."""
        np.save(Path(self.folder) / f"{name}.npy", np.ascontiguousarray(values), allow_pickle=False)

    @contextlib.contextmanager
    def matrix(self, name: str, shape: tuple[int, int]) -> Iterator[BinaryIO]:
        """Give a file that takes the rows of a float32 matrix one after the other."""
        with (Path(self.folder) / f"{name}.npy").open("wb") as file:
            header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float32)), "fortran_order": False}
            np.lib.format.write_array_header_1_0(file, {**header, "shape": shape})
            yield file

    def load(self, name: str) -> NDArray[Any]:
        """Map an array into memory, read-only."""
        return _mapped(str(Path(self.folder) / f"{name}.npy"))


@functools.lru_cache(maxsize=32)
def _mapped(path: str) -> NDArray[Any]:
    array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


@dataclass(frozen=True)
class Task:
    """What a worker needs to run a unit; small, since the events stay in the workspace.

    Attributes:
        key: the unit's identity.
        spec: the model.
        params: its parameters.
        columns: names of the features.
        matrix: name of the training matrix in the workspace.
        test_matrix: name of the held-out matrix, or None.
        groups: groups of the jet split, or None for the global variant.
        training_weights: scheme.
        negative_weights: policy for events of negative weight, or None.
        repeat: repeat number.
        fold: fold to hold out, negative to train on all events.
        totals: reference totals (N_s, N_b).
        seed: seed of the estimator.
        threads: threads it may use.
        model_file: temporary file for the fitted model, or None where it is not kept.
        from_disk: whether the training events stay on disk (`higgsbench.models.out_of_core`).
        name: what messages call the unit.
    """

    key: str
    spec: ModelSpec
    params: dict[str, Any]
    columns: tuple[str, ...]
    matrix: str
    test_matrix: str | None
    groups: tuple[tuple[int, ...], ...] | None
    training_weights: str
    negative_weights: str | None
    repeat: int
    fold: int
    totals: tuple[float, float]
    seed: int
    threads: int
    model_file: str | None = None
    from_disk: bool = False
    name: str = "a unit"


@dataclass(frozen=True)
class UnitResult:
    """What a unit brings back.

    Attributes:
        key: the unit's identity.
        rows: positions of the held-out training events (empty for a refit).
        score: their log-odds in physical normalisation.
        test_score: log-odds of the held-out test events, or None.
        fit_seconds: wall time of the fit.
        predict_us: prediction time per event in microseconds.
        peak_mb: peak resident memory of the process during the unit, in MB.
        error: traceback of a unit that failed, otherwise empty.
        model_file: file with the fitted model, not yet in place, or None.
        no_model: why the fitted model could not be stored, otherwise empty.
        refused: why the disk refused the model, otherwise empty.
    """

    key: str
    rows: NDArray[np.int64]
    score: NDArray[np.float64]
    test_score: NDArray[np.float64] | None
    fit_seconds: float
    predict_us: float
    peak_mb: float
    error: str = ""
    model_file: str | None = None
    no_model: str = ""
    refused: str = ""


def run_unit(task: Task, workspace: Workspace) -> UnitResult:
    """Run one unit; an exception of the model comes back as text, so that the other units go on."""
    from threadpoolctl import threadpool_limits

    _reset_peak()
    try:
        with threadpool_limits(limits=task.threads):
            result = _fit_and_score(task, workspace)
        give_back(workspace.load("y").size)  # what the estimator held, which is gone by now
        return result
    except Exception:
        empty = np.empty(0)
        return UnitResult(task.key, empty.astype(np.int64), empty, None, 0.0, 0.0, 0.0, traceback.format_exc())


def make_estimator(task: Task, events: int) -> Any:
    """Build the meta-estimator of a task: global, or split by jet number with the group as the last column.

    Args:
        task: the unit.
        events: number of training events.
    """
    from higgsbench.models import BuildContext
    from higgsbench.models.building import build_estimator, log_odds_reader
    from higgsbench.validation.physical import JetSplitClassifier, PhysicalClassifier

    context = BuildContext(task.seed, task.threads, task.columns, task.groups is not None, events)
    inner = build_estimator(task.spec, task.params, context)
    how: dict[str, Any] = {
        "training_weights": task.training_weights,
        "weighted": task.spec.sample_weight,
        "negative_weights": task.negative_weights,
        "log_odds": log_odds_reader(task.spec, task.params),
    }
    if task.groups is None:
        return PhysicalClassifier(inner, **how)
    return JetSplitClassifier(inner, group_feature=-1, groups=task.groups, keep_group_feature=False, **how)


def _fit_and_score(task: Task, workspace: Workspace) -> UnitResult:
    from higgsbench.metrics.weights import evaluation_weights

    X, y = workspace.load(task.matrix), workspace.load("y")
    weight, group = workspace.load("weight"), workspace.load("group")
    if task.fold < 0:
        train, held_out = np.arange(y.size), np.empty(0, dtype=np.int64)
    else:
        fold = workspace.load("fold")[task.repeat]
        train, held_out = np.flatnonzero(fold != task.fold), np.flatnonzero(fold == task.fold)
    estimator = make_estimator(task, train.size)
    evaluation = evaluation_weights(y[train], weight[train], *task.totals)
    split = task.groups is not None
    begin = time.perf_counter()
    if task.from_disk:
        _fit_from_disk(task, estimator, X, train, np.asarray(y[train]), evaluation, group[train] if split else None)
    else:
        features = chosen_rows(X, train, group if split else None)
        begin = time.perf_counter()
        estimator.fit(features, y[train].astype(np.int64), sample_weight=evaluation)
        del features
    fitted = time.perf_counter()
    give_back(train.size)
    score = block_scores(estimator, X, group if split else None, held_out)
    test_score = None
    if task.test_matrix is not None:
        test_group = workspace.load("test_group") if split else None
        test_score = block_scores(estimator, workspace.load(task.test_matrix), test_group)
    events = held_out.size + (0 if test_score is None else test_score.size)
    per_event = 1e6 * (time.perf_counter() - fitted) / events if events else 0.0
    give_back(train.size)
    result = UnitResult(task.key, held_out, score, test_score, fitted - begin, per_event, _peak_mb())
    return _with_model(result, estimator, task)


def _fit_from_disk(
    task: Task,
    estimator: Any,
    X: NDArray[np.float32],
    rows: NDArray[np.int64],
    y: NDArray[np.bool_],
    weight: NDArray[np.float64],
    numbers: NDArray[np.int64] | None,
) -> None:
    from higgsbench.models import BuildContext
    from higgsbench.models.building import estimator_from_disk
    from higgsbench.models.out_of_core import RowsOnDisk, Training
    from higgsbench.validation.physical import fit_from_disk

    context = BuildContext(task.seed, task.threads, task.columns)

    def fit(train: Training) -> Any:
        return estimator_from_disk(task.spec, task.params, context, train)

    fit_from_disk(estimator, fit, RowsOnDisk(X, rows), y, weight, numbers)


def _with_model(result: UnitResult, estimator: Any, task: Task) -> UnitResult:
    """Store the fitted model where the task asks for it; after the peak was read, for it is no part of the fit."""
    from higgsbench.runs.models import save_unit_model

    if task.model_file is None:
        return result
    try:
        reason = save_unit_model(estimator, task.spec, task.model_file)
    except OSError as error:
        return replace(result, refused=f"{task.model_file}: cannot be written: {error.strerror or error}")
    return replace(result, model_file=None if reason else task.model_file, no_model=reason)


def _reset_peak() -> None:
    """Start the kernel's peak memory counter of this process anew, where there is one (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _peak_mb() -> float:
    """Peak resident memory in MB (10^6 bytes) since the last reset, or since the process began."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass
    import psutil

    info = psutil.Process().memory_info()
    return float(getattr(info, "peak_wset", info.rss)) / 1e6


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
