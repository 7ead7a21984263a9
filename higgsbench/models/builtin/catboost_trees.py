"""CatBoost: gradient boosting on oblivious trees."""

from __future__ import annotations

import functools
import inspect
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.errors import StoreError
from higgsbench.models.builtin import LOG, PHYSICS, RAW, STOPPED, tuned
from higgsbench.models.spec import BAG, EARLY, BuildContext, ModelSpec, Preset
from higgsbench.models.storage import class_name
from higgsbench.schema import MOST_CATEGORIES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from higgsbench.models.estimators import Sample
    from higgsbench.models.storage import ModelReader, ModelWriter, Node

_DEVICES = {"cpu": "CPU", "cuda": "GPU"}

_ALIASES = {
    **dict.fromkeys(("num_boost_round", "n_estimators", "num_trees"), "iterations"),
    **dict.fromkeys(("random_state", "seed"), "random_seed"),
    **dict.fromkeys(("logging_level", "silent", "verbose_eval"), "verbose"),
    "eta": "learning_rate",
    "max_depth": "depth",
    "reg_lambda": "l2_leaf_reg",
    "colsample_bylevel": "rsm",
    "max_bin": "border_count",
    "objective": "loss_function",
    "min_child_samples": "min_data_in_leaf",
    "num_leaves": "max_leaves",
    "od_wait": "early_stopping_rounds",
}
"""From the parameter tables of CatBoost's documentation; `od_wait` is our early stopping, on events put aside."""


def _build(params: Mapping[str, Any], context: BuildContext) -> Any:
    from catboost import CatBoostClassifier

    from higgsbench.models.estimators import stopped_early

    given = dict(params)
    device = given.pop("device", None)  # the name that the other libraries use
    if device is not None:
        if device not in _DEVICES:
            raise ValueError(f"device must be {' or '.join(_DEVICES)}, got {device!r}")
        given["task_type"] = _DEVICES[device]
    fixed = {"random_seed": context.seed, "thread_count": context.threads, "verbose": False}

    def build(own: dict[str, Any]) -> Any:
        estimator = CatBoostClassifier(**fixed, allow_writing_files=False, **own)
        # scikit-learn's clone refuses parameters that come back as copies, as some of CatBoost's do.
        estimator.__sklearn_clone__ = functools.partial(build, own)
        return estimator

    return stopped_early(given, context.seed, build, _until)


def _until(estimator: Any, train: Sample, aside: Sample, rounds: int) -> Any:
    X, y, w = train
    pool = _pool(estimator, *aside)
    return estimator.fit(X, y, sample_weight=w, eval_set=pool, early_stopping_rounds=rounds, use_best_model=True)


def _pool(estimator: Any, X: NDArray[Any], y: Any = None, weight: Any = None) -> Any:
    from catboost import Pool

    data = estimator.data(X) if isinstance(estimator, OnCategories) else X
    return Pool(data, y, weight=weight)


class OnCategories:
    """`CatBoostClassifier` that takes the first `count` columns as categories and learns how to encode them."""

    def __init__(self, estimator: Any, count: int) -> None:
        self.estimator = estimator
        self.count = count

    def __sklearn_clone__(self) -> OnCategories:
        from sklearn.base import clone

        return OnCategories(clone(self.estimator), self.count)

    def data(self, X: NDArray[Any]) -> Any:
        """Return X (n, p) in the library's form: columns of numbers, then columns of words."""
        from catboost import FeaturesData

        words = np.array([*(str(value).encode() for value in range(MOST_CATEGORIES)), b""], dtype=object)
        at = np.nan_to_num(X[:, : self.count], nan=-1.0).astype(np.int64)  # missing: the last word, which is empty
        numbers = np.ascontiguousarray(X[:, self.count :], dtype=np.float32)
        return FeaturesData(numbers if numbers.size else None, words[at])

    def fit(self, X: NDArray[Any], y: NDArray[Any], sample_weight: Any = None, **more: Any) -> OnCategories:
        """Fit on X (n, p), y (n,) and weights (n,)."""
        self.estimator.fit(_pool(self, X, y, sample_weight), **more)
        return self

    def predict(self, X: NDArray[Any], **more: Any) -> Any:
        """Return the library's prediction for X (n, p)."""
        return self.estimator.predict(self.data(X), **more)

    def predict_proba(self, X: NDArray[Any]) -> Any:
        """Return the probabilities (n, 2) of both classes."""
        return self.estimator.predict_proba(self.data(X))


def _log_odds(estimator: Any, X: NDArray[Any]) -> NDArray[Any]:
    raw: NDArray[Any] = estimator.predict(X, prediction_type="RawFormulaVal")
    return raw


def _contributions(estimator: Any, X: NDArray[Any]) -> NDArray[Any]:
    count = estimator.count if isinstance(estimator, OnCategories) else 0
    trees = estimator.estimator if count else estimator
    found = np.asarray(trees.get_feature_importance(_pool(estimator, X), type="ShapValues"))
    numbers = X.shape[1] - count
    return np.column_stack([found[:, numbers:-1], found[:, :numbers], found[:, -1]])


def _names() -> frozenset[str]:
    from catboost import CatBoostClassifier

    return frozenset({*inspect.signature(CatBoostClassifier.__init__).parameters, *EARLY, "device"} - {"self"})


class _Codec:
    """`CatBoostClassifier` as cbm, the library's own binary format."""

    kind = "catboost"

    def handles(self, estimator: Any) -> bool:
        return class_name(estimator) == "catboost.core.CatBoostClassifier" or isinstance(estimator, OnCategories)

    def save(self, estimator: Any, writer: ModelWriter) -> Node:
        estimator = estimator.estimator if isinstance(estimator, OnCategories) else estimator
        with tempfile.TemporaryDirectory(prefix="higgsbench-") as folder:
            file = Path(folder) / "model.cbm"  # the library writes files only
            estimator.save_model(str(file), format="cbm")
            return {"part": writer.part(file.read_bytes(), "cbm")}

    def load(self, node: Node, reader: ModelReader) -> Any:
        from catboost import CatBoostClassifier

        content = reader.part(node["part"])
        if content[:4] != b"CBM1":
            raise StoreError("its CatBoost part is not a cbm file")
        estimator = CatBoostClassifier()
        estimator.load_model(blob=content)
        count = len(estimator.get_cat_feature_indices())
        return OnCategories(estimator, count) if count else estimator


_COMMON = {"border_count": 64, "boosting_type": "Plain", "bootstrap_type": "Bernoulli", "subsample": 0.7}

MODELS = (
    ModelSpec(
        name="catboost",
        build=_build,
        description="CatBoost gradient boosting on oblivious trees",
        presets={
            "quick": Preset({**_COMMON, "iterations": 150, "depth": 6, "learning_rate": 0.1}, **RAW),
            "good": Preset({**_COMMON, "iterations": 400, "depth": 6, "learning_rate": 0.04}, **RAW),
            "best": Preset(
                {**_COMMON, **STOPPED, "iterations": 3000, "depth": 6, "learning_rate": 0.06, BAG: 3}, **PHYSICS
            ),
        },
        missing=True,
        requires=("catboost", "numpy"),
        imports=("catboost",),
        log_odds=_log_odds,
        parameters=_names,
        aliases=_ALIASES,
        harness=("random_seed", "thread_count", "verbose", "allow_writing_files"),
        codecs=(_Codec(),),
        cost=6.0,
        memory=4.2,
        devices=("device", "task_type"),
        rounds=("iterations",),
        contributions=_contributions,
        with_categories=OnCategories,
        **tuned(
            iterations=(1000, 100, 3000, LOG),
            learning_rate=(None, 0.01, 0.3, LOG),
            depth=(6, 3, 9),
            l2_leaf_reg=(3.0, 0.5, 100.0, LOG),
            subsample=(0.8, 0.4, 1.0),
            rsm=(1.0, 0.2, 1.0),
            random_strength=(1.0, 0.0, 5.0),
        ),
    ),
)
