"""One work unit, as it runs in a worker process: fit on the other folds, score the held-out one.

A unit reads the events from a workspace, which the run fills beforehand. It scores them in blocks of fixed size: matrix
products round differently with the number of rows, so only equal blocks give equal bits, here and in `predict`. Blocks
also bound the memory of models that widen the features.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import time
import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from higgsbench.models.spec import BAG, release
from higgsbench.runs.environment import give_back

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from higgsbench.models import ModelSpec

REFIT = -1
"""Fold number of the unit that trains on all training events."""

BLOCK = 1 << 14
"""Events per block; part of what determines scores to the last bit."""
_RELEASE = 16
"""Blocks after which mapped pages are released."""


class Start(NamedTuple):
    """What a unit starts from: the model that another unit trains on simulated events, or these events themselves.

    `params` are those of the further training; None to use the model as it is. With `beside`, the unit trains its own
    model on the simulated events and those of the run.
    """

    unit: Unit
    events: int
    params: dict[str, Any] | None
    beside: bool = False

    def simulated(self, workspace: Workspace) -> Workspace:
        """Return the place, in that of the units, of the simulated events that these add to their own."""
        return Workspace(str(Path(workspace.folder) / f"simulated-{self.events}"))


_NO_IDS, _NO_SCORES = np.empty(0, dtype=np.int64), np.empty(0)


@dataclass(frozen=True)
class Unit:
    """One fit: a row on one fold of one repeat, with everything that a worker needs; the events stay in the workspace.

    Attributes:
        key: digest of all that determines the scores.
        name: what messages call the unit.
        row: position of the row in the plan.
        repeat, fold: number of the repeat, and of the fold to hold out, or `REFIT`.
        seed: seed of the estimator.
        spec, params: the model and its parameters.
        columns: names of the features.
        matrix, test_matrix: names of the matrices of training and held-out events in the workspace; no held-out matrix
            where the unit does not score these events.
        groups: groups of the jet split, or None for the global variant.
        training_weights: scheme.
        negative_weights: policy for events of negative weight, or None.
        totals: reference totals (N_s, N_b).
        threads: number that it may use.
        categories: how many values each of the first features has, which are categorical.
        from_disk: whether the training events stay on disk (`higgsbench.models.spec.RowsOnDisk`).
        model_file: temporary file for the fitted model, or None where it is not kept.
        training_events: number of events that it is limited to, and number of the draw; None for all.
        start: the model from simulated events that it starts from, or None.
        planed: name of the matrix with the column in which the training weights are flat, or None.
        decorrelate: name of the matrix with the column that the score should not depend on and the strength of the
            penalty, or None.
        shifted: names of the matrices with shifted copies of the training events, which are trained on too.
    """

    key: str
    name: str
    row: int
    repeat: int
    fold: int
    seed: int
    spec: ModelSpec
    params: dict[str, Any]
    columns: tuple[str, ...]
    matrix: str
    test_matrix: str | None
    groups: tuple[tuple[int, ...], ...] | None
    training_weights: str
    negative_weights: str | None
    totals: tuple[float, float]
    threads: int
    categories: tuple[int, ...] = ()
    from_disk: bool = False
    model_file: str | None = None
    training_events: tuple[int, int] | None = None
    start: Start | None = None
    planed: str | None = None
    decorrelate: tuple[str, float] | None = None
    shifted: tuple[str, ...] = ()


class StoredModel(NamedTuple):
    """What is stored of a unit's fitted model: the SHA-256 of its file, or None and the reason why there is no file."""

    checksum: str | None
    reason: str = ""


@dataclass(frozen=True)
class UnitResult:
    """The result of a unit, as a worker returns it and as the store reads it.

    Attributes:
        key: the unit's identity.
        event_id, score: numbers of the held-out training events and their log-odds in physical normalisation; empty for
            a refit.
        test_event_id, test_score: the same of the test events, or empty where they were not scored.
        fit_seconds: wall time of the fit.
        predict_us: prediction time per event in microseconds.
        peak_mb: peak resident memory of the process during the unit, in MB.
        model: what is stored of the fitted model; None where none was asked for.
        model_file: file with the fitted model, not yet in place, or None.
        error: traceback of a unit that failed, otherwise empty.
        refused: why the model could not be written, otherwise empty.
    """

    key: str
    event_id: NDArray[np.int64]
    score: NDArray[np.float64]
    test_event_id: NDArray[np.int64]
    test_score: NDArray[np.float64]
    fit_seconds: float = 0.0
    predict_us: float = 0.0
    peak_mb: float = 0.0
    model: StoredModel | None = None
    model_file: str | None = None
    error: str = ""
    refused: str = ""

    @classmethod
    def failed(cls, key: str, error: str) -> UnitResult:
        """Return the result of a unit that failed, with the reason."""
        return cls(key, _NO_IDS, _NO_SCORES, _NO_IDS, _NO_SCORES, error=error)

    @property
    def scored(self) -> int:
        """How many events were scored."""
        return self.score.size + self.test_score.size

    def without_scores(self) -> UnitResult:
        """Return the result without its scores, which take up most of a run's memory."""
        return replace(self, event_id=_NO_IDS, score=_NO_SCORES, test_event_id=_NO_IDS, test_score=_NO_SCORES)


@dataclass(frozen=True)
class Workspace:
    """Arrays of a run as .npy files of a folder, which every worker maps into memory instead of receiving copies."""

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

    def model(self, key: str) -> Path:
        """Return the file of a model that units start from."""
        return Path(self.folder) / f"{key}.model"

    def load(self, name: str) -> NDArray[Any]:
        """Map an array into memory, read-only."""
        return _mapped(str(Path(self.folder) / f"{name}.npy"))


@functools.lru_cache(maxsize=32)
def _mapped(path: str) -> NDArray[Any]:
    array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def with_group(X: NDArray[np.float32], numbers: NDArray[np.int64] | None) -> NDArray[np.float32]:
    """Append the group number as the last column where the model is split by it."""
    return X if numbers is None else np.column_stack([X, numbers.astype(np.float32)])


def _blocks(
    X: NDArray[np.float32], rows: NDArray[np.int64], numbers: NDArray[np.int64] | None
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Yield rows of a mapped matrix block by block, with the group number last where there is one; release pages."""
    for first in range(0, rows.size, BLOCK):
        at = slice(first, first + BLOCK)
        yield at, with_group(np.asarray(X[rows[at]]), None if numbers is None else np.asarray(numbers[rows[at]]))
        if first // BLOCK % _RELEASE == 0:
            release(X)
    release(X)


def chosen_rows(
    X: NDArray[np.float32], rows: NDArray[np.int64], numbers: NDArray[np.int64] | None
) -> NDArray[np.float32]:
    """Copy some rows of a mapped matrix (n, p), with the group number last where the model is split by it."""
    out = np.empty((rows.size, X.shape[1] + (numbers is not None)), dtype=np.float32)
    for at, block in _blocks(X, rows, numbers):
        out[at] = block
    return out


def block_scores(
    estimator: Any,
    X: NDArray[np.float32],
    numbers: NDArray[np.int64] | None = None,
    chosen: NDArray[np.int64] | None = None,
) -> NDArray[np.float64]:
    """Return the log-odds of all events (n,), or of those at some positions (k,), block by block.

    Args:
        estimator: a fitted meta-estimator.
        X: (n, p) features, perhaps mapped from a file.
        numbers: (n,) group numbers to append where the model is split by them, otherwise None.
        chosen: (k,) positions of the events to score, None for all.
    """
    rows = np.arange(X.shape[0]) if chosen is None else chosen
    scores = np.empty(rows.size)
    for at, block in _blocks(X, rows, numbers):
        scores[at] = estimator.decision_function(block)
    return scores


def mean_log_odds(scores: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the mean (n,) of the fold models' scores, added in order so that every event rounds alike."""
    return sum(scores[1:], start=scores[0]) / len(scores)


def load_modules(unit: Unit) -> None:
    """Load what a fit needs: loading does not count as its time, and a thread limit reaches only loaded libraries."""
    for module in ("higgsbench.models.building", "higgsbench.validation.physical", *unit.spec.imports):
        with contextlib.suppress(ImportError):  # the fit reports it
            importlib.import_module(module)


def run_unit(unit: Unit, workspace: Workspace) -> UnitResult:
    """Run one unit; an exception of the model comes back as text, so that the other units go on."""
    from threadpoolctl import threadpool_limits

    load_modules(unit)
    with contextlib.suppress(OSError):  # resets the kernel's peak memory counter of this process (Linux)
        Path("/proc/self/clear_refs").write_text("5")
    try:
        with threadpool_limits(limits=unit.threads):
            result = _fit_and_score(unit, workspace)
        give_back(workspace.load("y").size)  # memory of the estimator, which is gone by now
        return result
    except Exception:
        return UnitResult.failed(unit.key, traceback.format_exc())


def make_estimator(unit: Unit, events: int, workspace: Workspace | None = None) -> Any:
    """Build the meta-estimator of a unit for `events` training events; a split one finds the group in column -1.

    A unit that starts from a model does so only with the workspace that has it.
    """
    from higgsbench.models import BuildContext
    from higgsbench.models.building import build_estimator, log_odds_reader
    from higgsbench.validation.physical import JetSplitClassifier, PhysicalClassifier, unit_codecs

    split = unit.groups is not None
    strength = 0.0 if unit.decorrelate is None else unit.decorrelate[1]
    own: dict[str, Any] = {"categories": unit.categories, "decorrelation": strength}
    context = BuildContext(unit.seed, unit.threads, unit.columns, split, events, **own)
    inner = build_estimator(unit.spec, unit.params, context)
    if unit.start is not None and not unit.start.beside and workspace is not None:
        from higgsbench.models.pretrain import Pretrained

        file = str(workspace.model(unit.start.unit.key))
        members = 1 if unit.start.params is None else unit.params.get(BAG, 1)
        inner = Pretrained(file, unit_codecs(unit.spec), unit.start.params, members, unit.seed, unit.threads)
    how: dict[str, Any] = {
        "training_weights": unit.training_weights,
        "weighted": unit.spec.sample_weight,
        "negative_weights": unit.negative_weights,
        "log_odds": log_odds_reader(unit.spec, unit.params),
    }
    if unit.groups is None:
        return PhysicalClassifier(inner, **how)
    how |= {"group_feature": -1, "keep_group_feature": False, "categories": len(unit.categories)}
    return JetSplitClassifier(inner, groups=unit.groups, **how)


def _fit_and_score(unit: Unit, workspace: Workspace) -> UnitResult:
    X, size = workspace.load(unit.matrix), workspace.load("y").size
    fold = np.zeros(size) if unit.fold == REFIT else workspace.load("fold")[unit.repeat]
    train, held_out = np.flatnonzero(fold != unit.fold), np.flatnonzero(fold == unit.fold)
    if unit.training_events is not None:
        train = _drawn(unit.training_events, unit.seed, train, workspace)
    group = workspace.load("group") if unit.groups is not None else None
    estimator = make_estimator(unit, train.size * (1 + len(unit.shifted)), workspace)
    seconds = _fit(unit, estimator, workspace, train, group)
    give_back(train.size)
    begin = time.perf_counter()
    score = block_scores(estimator, X, group, held_out)
    test_event_id, test_score = _NO_IDS, _NO_SCORES
    if unit.test_matrix is not None:
        test_group = workspace.load("test_group") if unit.groups is not None else None
        test_event_id = np.array(workspace.load("test_event_id"))
        test_score = block_scores(estimator, workspace.load(unit.test_matrix), test_group)
    events = score.size + test_score.size
    per_event = 1e6 * (time.perf_counter() - begin) / events if events else 0.0
    give_back(train.size)
    event_id = workspace.load("event_id")[held_out]
    result = UnitResult(unit.key, event_id, score, test_event_id, test_score, seconds, per_event, _peak_mb())
    return result if unit.model_file is None else _with_model(result, estimator, unit.spec, unit.model_file)


def _drawn(limit: tuple[int, int], seed: int, train: NDArray[np.int64], workspace: Workspace) -> NDArray[np.int64]:
    """Return the positions of those training events that a fit is limited to."""
    from higgsbench.validation import drawn_events

    number, draw = limit
    y, numbers, event_id = (np.asarray(workspace.load(name)[train]) for name in ("y", "group", "event_id"))
    return train[drawn_events(number, y, numbers, event_id, (seed, draw))]


def _fit(
    unit: Unit, estimator: Any, workspace: Workspace, train: NDArray[np.int64], group: NDArray[np.int64] | None
) -> float:
    """Fit in place, from memory or from disk; return the seconds it took."""
    from higgsbench.metrics.weights import evaluation_weights
    from higgsbench.models import BuildContext
    from higgsbench.models.building import estimator_from_disk
    from higgsbench.models.spec import RowsOnDisk
    from higgsbench.validation import group_index, planed

    X, y = workspace.load(unit.matrix), np.asarray(workspace.load("y")[train])
    evaluation = evaluation_weights(y, workspace.load("weight")[train], *unit.totals)
    member = np.zeros(train.size, np.int64) if group is None else group_index(group[train], estimator.groups)
    if unit.planed is not None:
        evaluation = planed(y, evaluation, workspace.load(unit.planed)[train, 0].astype(np.float64), member)
    own = [y.astype(np.int64), evaluation, workspace.load("process")[train]]
    if unit.decorrelate is not None:
        own.append(workspace.load(unit.decorrelate[0])[train, 0])
    copies = () if unit.from_disk else (X, *(workspace.load(name) for name in unit.shifted))
    features = [chosen_rows(copy, train, group) for copy in copies]
    begin = time.perf_counter()
    if unit.start is not None and unit.start.beside:
        from higgsbench.models.pretrain import with_simulated

        stored = map(unit.start.simulated(workspace).load, (unit.matrix, "y", "weight"))
        features[0], *own = with_simulated((features[0], *own), tuple(stored), unit.seed, unit.threads)
    if len(features) == 1:
        estimator.fit(features[0], *own)
    elif features:
        estimator.fit(np.concatenate(features), *(np.tile(values, len(features)) for values in own))
    else:
        context = BuildContext(unit.seed, unit.threads, unit.columns)
        fit = functools.partial(estimator_from_disk, unit.spec, unit.params, context)
        estimator.classes_, estimator.n_features_in_ = np.array([0, 1]), X.shape[1] + (group is not None)
        estimator.fit_rows(fit, RowsOnDisk(X, train), y, evaluation, *(() if group is None else (member,)))
    return time.perf_counter() - begin


def _with_model(result: UnitResult, estimator: Any, spec: ModelSpec, file: str) -> UnitResult:
    """Write the fitted model to a temporary file; the peak memory was read before and excludes this."""
    from higgsbench.models.storage import UnstorableError, write_model
    from higgsbench.validation.physical import unit_codecs

    try:
        write_model(estimator, Path(file), unit_codecs(spec))
    except UnstorableError as error:
        return replace(result, model=StoredModel(None, str(error)))
    except OSError as error:
        return replace(result, refused=f"{file}: cannot be written: {error.strerror or error}")
    return replace(result, model_file=file)


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
