"""XGBoost: gradient boosting on histograms, in memory or from bins in a file."""

from __future__ import annotations

import functools
import json
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.errors import ModelError
from higgsbench.models.builtin import LOG, PHYSICS, RAW, STOPPED, parameter_names, tuned
from higgsbench.models.spec import BAG, EARLY, BuildContext, ModelSpec, Preset
from higgsbench.models.storage import class_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from higgsbench.models.estimators import Sample
    from higgsbench.models.spec import Training
    from higgsbench.models.storage import ModelReader, ModelWriter, Node

_ALIASES = {
    **dict.fromkeys(("num_boost_round", "num_round", "num_rounds", "n_rounds"), "n_estimators"),
    **dict.fromkeys(("seed", "random_seed"), "random_state"),
    "nthread": "n_jobs",
    "eta": "learning_rate",
    "min_split_loss": "gamma",
    "lambda": "reg_lambda",
    "alpha": "reg_alpha",
    "max_leaf_nodes": "max_leaves",
}
"""From the parameter page of XGBoost's documentation and its scikit-learn interface."""

_LISTS: dict[str, Any] = {"monotone_constraints": tuple, "interaction_constraints": json.dumps}
"""Forms that XGBoost accepts in place of lists of numbers, which it refuses."""

_NATIVE = ("max_cached_hist_node", "lambda_bias", "refresh_leaf", "process_type", "extmem_single_page")


def _build(params: Mapping[str, Any], context: BuildContext) -> Any:
    from xgboost import XGBClassifier

    from higgsbench.models.estimators import stopped_early

    fixed = {"random_state": context.seed, "n_jobs": context.threads}
    lists = {name: _LISTS[name](v) for name, v in params.items() if name in _LISTS and isinstance(v, (list, tuple))}
    return stopped_early({**params, **lists}, context.seed, lambda own: XGBClassifier(**fixed, **own), _until)


def _until(estimator: Any, train: Sample, aside: Sample, rounds: int) -> Any:
    estimator.set_params(early_stopping_rounds=rounds, eval_metric="logloss")
    X, y, w = train
    watched = {"eval_set": [aside[:2]], "sample_weight_eval_set": [aside[2]], "verbose": False}
    return estimator.fit(X, y, sample_weight=w, **watched)


def _log_odds(estimator: Any, X: NDArray[Any]) -> NDArray[Any]:
    margin: NDArray[Any] = estimator.predict(X, output_margin=True)
    return margin


def _contributions(estimator: Any, X: NDArray[Any]) -> NDArray[Any]:
    from xgboost import DMatrix

    booster = estimator.get_booster()
    best = estimator.best_iteration + 1 if "best_iteration" in booster.attributes() else 0
    data = DMatrix(X, missing=estimator.missing, nthread=estimator.n_jobs)
    return np.asarray(booster.predict(data, pred_contribs=True, iteration_range=(0, best)))


def _from_disk(build: Any, params: Mapping[str, Any], context: BuildContext, train: Training) -> Any:
    """Train on bins in a file (`ExtMemQuantileDMatrix`); early stopping holds out the same events as in memory."""
    import xgboost
    from sklearn.base import clone

    from higgsbench.models.estimators import EarlyStopping

    if not hasattr(xgboost, "ExtMemQuantileDMatrix"):
        raise ModelError(f"xgboost {xgboost.__version__} cannot train from disk; that needs version 3.0")
    built = build(params, context)
    with tempfile.TemporaryDirectory(prefix="higgsbench-bins-") as folder:
        if not isinstance(built, EarlyStopping):
            return _on_bins(clone(built), train, None, 0, Path(folder))
        learn, aside = built.parts(train.y.astype(np.int64))
        events = train.chosen(learn), train.chosen(aside)
        built.estimator_ = _on_bins(clone(built.estimator), *events, built.rounds, Path(folder))
    return built


def _on_bins(estimator: Any, train: Training, aside: Training | None, rounds: int, folder: Path) -> Any:
    import xgboost

    native = {name: value for name, value in estimator.get_xgb_params().items() if value is not None}
    threads = estimator.get_params()["n_jobs"]
    more = {"missing": np.nan, "nthread": threads, "max_bin": native.get("max_bin", 256)}
    bins = xgboost.ExtMemQuantileDMatrix(_pages(train, folder / "train"), **more)
    stop: dict[str, Any] = {}
    if aside is not None:
        watched = xgboost.ExtMemQuantileDMatrix(_pages(aside, folder / "aside"), ref=bins, **more)
        native["eval_metric"] = "logloss"
        stop = {"evals": [(watched, "validation_0")], "early_stopping_rounds": rounds, "verbose_eval": False}
    booster = xgboost.train(native, bins, num_boost_round=estimator.get_num_boosting_rounds(), **stop)
    estimator.load_model(bytearray(booster.save_raw("ubj")))
    return estimator


def _pages(events: Training, prefix: Path) -> Any:
    """Return an iterator over blocks of events whose bins XGBoost keeps in files that begin with a prefix."""
    import xgboost

    class Pages(xgboost.DataIter):
        """Hands XGBoost one block after the other."""

        def __init__(self) -> None:
            self.blocks = events.data.blocks()
            super().__init__(cache_prefix=str(prefix))

        def next(self, input_data: Callable[..., Any]) -> bool:
            found = next(self.blocks, None)
            if found is None:
                return False
            at, values = found
            input_data(data=values, label=events.y[at].astype(np.float32), weight=events.weight[at])
            return True

        def reset(self) -> None:
            self.blocks = events.data.blocks()

    return Pages()


class _Codec:
    """`XGBClassifier` as UBJSON, the library's own binary JSON."""

    kind = "xgboost"

    def handles(self, estimator: Any) -> bool:
        return class_name(estimator) == "xgboost.sklearn.XGBClassifier"

    def save(self, estimator: Any, writer: ModelWriter) -> Node:
        missing = float(estimator.get_params()["missing"])
        content = bytes(estimator.get_booster().save_raw("ubj"))
        return {"part": writer.part(content, "ubj"), "missing": None if math.isnan(missing) else missing}

    def load(self, node: Node, reader: ModelReader) -> Any:
        from xgboost import XGBClassifier

        missing = math.nan if node["missing"] is None else float(node["missing"])
        estimator = XGBClassifier(n_jobs=reader.threads, missing=missing)
        estimator.load_model(bytearray(reader.part(node["part"])))
        return estimator


_COMMON = {"max_depth": 5, "learning_rate": 0.03, "min_child_weight": 50, "colsample_bytree": 0.5}

MODELS = (
    ModelSpec(
        name="xgboost",
        build=_build,
        description="XGBoost gradient boosting (histogram)",
        presets={
            "quick": Preset({"n_estimators": 120, "max_depth": 5, "learning_rate": 0.1, "min_child_weight": 20}, **RAW),
            "good": Preset({**_COMMON, "n_estimators": 450, "min_child_weight": 20}, **RAW),
            "best": Preset({**_COMMON, **STOPPED, "n_estimators": 3000, BAG: 3}, **PHYSICS),
        },
        missing=True,
        requires=("xgboost", "numpy"),
        imports=("xgboost",),
        log_odds=_log_odds,
        parameters=functools.partial(parameter_names, "xgboost", "XGBClassifier", *_NATIVE, *EARLY),
        aliases=_ALIASES,
        harness=("random_state", "n_jobs"),
        codecs=(_Codec(),),
        cost=2.0,
        memory=2.7,
        from_disk=_from_disk,
        disk_bytes=3.7,
        devices=("device",),
        rounds=("n_estimators",),
        contributions=_contributions,
        **tuned(
            n_estimators=(100, 100, 3000, LOG),
            learning_rate=(0.3, 0.005, 0.3, LOG),
            max_depth=(6, 2, 9),
            min_child_weight=(1.0, 1.0, 300.0, LOG),
            subsample=(1.0, 0.4, 1.0),
            colsample_bytree=(1.0, 0.2, 1.0),
            reg_alpha=(0.0, 0.0, 10.0),
            reg_lambda=(1.0, 0.1, 100.0, LOG),
            gamma=(0.0, 0.0, 5.0),
        ),
    ),
)
