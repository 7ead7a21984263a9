"""Boosted trees trained from a matrix on disk, each library in its own way, for training events larger than memory.

XGBoost keeps its bins in a file (`ExtMemQuantileDMatrix`), LightGBM bins rows as they come (`Sequence`), CatBoost
quantises a text file block by block (`catboost.utils.quantize`). What is in memory is the bins, a byte per value, and
for XGBoost a part of them.
"""

from __future__ import annotations

import mmap
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from higgsbench.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from higgsbench.models.spec import BuildContext

__all__ = ["RowsOnDisk", "Training", "catboost_from_disk", "lightgbm_from_disk", "release", "xgboost_from_disk"]

BLOCK = 1 << 17
"""Rows that are in memory at a time."""


@dataclass(frozen=True)
class RowsOnDisk:
    """Some rows and columns of a matrix that is mapped from a file.

    Attributes:
        X: (n, p) float32 matrix.
        rows: (k,) positions of the rows, ascending.
        columns: (q,) positions of the columns, None for all.
    """

    X: NDArray[np.float32]
    rows: NDArray[np.int64]
    columns: NDArray[np.intp] | None = None

    def __len__(self) -> int:
        return self.rows.size

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.X.shape[1] if self.columns is None else self.columns.size

    def values(self, at: slice | int | NDArray[np.int64]) -> NDArray[np.float32]:
        """Return some of the rows, by their positions among these."""
        part = np.asarray(self.X[self.rows[at]])
        chosen: NDArray[np.float32] = part if self.columns is None else part[..., self.columns]
        return chosen

    def blocks(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Yield all rows in blocks of at most `BLOCK`, with their positions among these."""
        for first in range(0, len(self), BLOCK):
            at = slice(first, min(first + BLOCK, len(self)))
            yield at, self.values(at)
            release(self.X)

    def chosen(self, index: NDArray[np.int64]) -> RowsOnDisk:
        """Return some of the rows, by their ascending positions among these."""
        return RowsOnDisk(self.X, self.rows[index], self.columns)


def release(array: NDArray[Any]) -> None:
    """Let go of the pages of an array mapped from a file: they stay in the system's cache, no longer in the process."""
    mapped = getattr(array, "_mmap", None)
    if mapped is not None and hasattr(mapped, "madvise"):
        mapped.madvise(mmap.MADV_DONTNEED)


@dataclass(frozen=True)
class Training:
    """Events to train on.

    Attributes:
        data: (n, p) features.
        y: (n,) truth.
        weight: (n,) training weights.
    """

    data: RowsOnDisk
    y: NDArray[np.bool_]
    weight: NDArray[np.float64]

    def chosen(self, index: NDArray[np.int64]) -> Training:
        """Return some of the events, by their ascending positions."""
        return Training(self.data.chosen(index), self.y[index], self.weight[index])


class _Library(Protocol):
    def __call__(self, estimator: Any, train: Training, aside: Training | None, rounds: int, folder: Path) -> Any: ...


def _fitted(built: Any, train: Training, fit: _Library) -> Any:
    """Fit what a builder made: trees, perhaps stopped early on the same events that would be put aside in memory."""
    from sklearn.base import clone

    from higgsbench.models.estimators import EarlyStopping

    with tempfile.TemporaryDirectory(prefix="higgsbench-bins-") as folder:
        if not isinstance(built, EarlyStopping):
            return fit(clone(built), train, None, 0, Path(folder))
        learn, aside = built.parts(train.y.astype(np.int64))
        estimator = fit(clone(built.estimator), train.chosen(learn), train.chosen(aside), built.rounds, Path(folder))
    built.estimator_ = estimator
    return built


def xgboost_from_disk(build: Any, params: Mapping[str, Any], context: BuildContext, train: Training) -> Any:
    """Train XGBoost on bins in a file.

    Args:
        build: the model's builder.
        params: its parameters.
        context: seed and threads.
        train: the events.

    Raises:
        ModelError: for a version of XGBoost before 3.0.
    """
    import xgboost

    if not hasattr(xgboost, "ExtMemQuantileDMatrix"):
        raise ModelError(f"xgboost {xgboost.__version__} cannot train from disk; that needs version 3.0")
    return _fitted(build(params, context), train, _xgboost)


def _xgboost(estimator: Any, train: Training, aside: Training | None, rounds: int, folder: Path) -> Any:
    import xgboost

    from higgsbench.models.xgboost_pages import pages

    native = {name: value for name, value in estimator.get_xgb_params().items() if value is not None}
    threads = estimator.get_params()["n_jobs"]
    more = {"missing": np.nan, "nthread": threads, "max_bin": native.get("max_bin", 256)}
    bins = xgboost.ExtMemQuantileDMatrix(pages(train, folder / "train"), **more)
    stop: dict[str, Any] = {}
    if aside is not None:
        watched = xgboost.ExtMemQuantileDMatrix(pages(aside, folder / "aside"), ref=bins, **more)
        native["eval_metric"] = "logloss"
        stop = {"evals": [(watched, "validation_0")], "early_stopping_rounds": rounds, "verbose_eval": False}
    booster = xgboost.train(native, bins, num_boost_round=estimator.get_num_boosting_rounds(), **stop)
    estimator.load_model(bytearray(booster.save_raw("ubj")))
    return estimator


def lightgbm_from_disk(build: Any, params: Mapping[str, Any], context: BuildContext, train: Training) -> Any:
    """Train LightGBM on rows that are binned as they come; arguments as for `xgboost_from_disk`.

    Trees that stop early take the bins of all events, those put aside included, as a bag in memory does.

    Raises:
        ModelError: for parameters that only the library's wrapper for arrays knows.
    """
    import lightgbm

    from higgsbench.models.bins import LightGBMBins, native
    from higgsbench.models.estimators import EarlyStopping
    from higgsbench.models.lightgbm_rows import Rows
    from higgsbench.models.storage import LoadedLightGBM

    built = build(params, context)
    stopped = isinstance(built, EarlyStopping)
    estimator = built.estimator if stopped else built
    for name in ("class_weight", "objective", "linear_tree"):
        if estimator.get_params().get(name):
            raise ModelError(f"LightGBM cannot train from disk with {name}; leave it out, or raise memory_limit")
    own = native(estimator)
    label = train.y.astype(np.float32)
    bins = lightgbm.Dataset(Rows(train.data), label=label, weight=train.weight, params=own)
    if stopped:
        return built.fit_on(LightGBMBins(), bins.construct(), train.y.astype(np.int64))
    return LoadedLightGBM(lightgbm.train(own, bins, num_boost_round=estimator.n_estimators), context.threads)


def catboost_from_disk(build: Any, params: Mapping[str, Any], context: BuildContext, train: Training) -> Any:
    """Train CatBoost on a text file that is quantised block by block; arguments as for `xgboost_from_disk`."""
    return _fitted(build(params, context), train, _catboost)


def _catboost(estimator: Any, train: Training, aside: Training | None, rounds: int, folder: Path) -> Any:
    from catboost.utils import quantize

    given = estimator.get_params()
    how = {name: given[name] for name in ("border_count", "feature_border_type") if name in given}
    more = {"thread_count": given["thread_count"], **how}
    (folder / "columns.cd").write_text("0\tLabel\n1\tWeight\n")
    columns = str(folder / "columns.cd")
    pool = quantize(str(_text(train, folder / "train.tsv")), column_description=columns, **more)
    (folder / "train.tsv").unlink()
    stop: dict[str, Any] = {}
    if aside is not None:
        borders = str(folder / "borders.tsv")
        pool.save_quantization_borders(borders)
        file = str(_text(aside, folder / "aside.tsv"))
        watched = quantize(file, column_description=columns, input_borders=borders, thread_count=given["thread_count"])
        stop = {"eval_set": watched, "early_stopping_rounds": rounds, "use_best_model": True}
    return estimator.fit(pool, **stop)


def _text(events: Training, target: Path) -> Path:
    """Write label, weight and features as tab-separated text, with as many digits as single precision has."""
    import polars as pl

    with target.open("wb") as stream:
        for at, values in events.data.blocks():
            columns: dict[str, Any] = {"y": events.y[at].astype(np.int8), "w": events.weight[at]}
            columns |= {f"f{i}": values[:, i] for i in range(values.shape[1])}
            stream.write(pl.DataFrame(columns).write_csv(include_header=False, separator="\t").encode())
    return target
