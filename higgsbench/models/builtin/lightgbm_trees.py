"""LightGBM: gradient boosting on leaf-wise trees.

A bag whose members stop early bins its events once, and each member takes its part of the rows. The bins are learnt
from all events of the fold, including those that a member puts aside, and depend neither on truth nor on weight.
`results/reference/shared-bins.md` says why the other libraries do not.
"""

from __future__ import annotations

import functools
import inspect
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.errors import StoreError
from higgsbench.models.builtin import LOG, PHYSICS, RAW, STOPPED, parameter_names, tuned
from higgsbench.models.spec import BAG, EARLY, BuildContext, ModelSpec, Preset
from higgsbench.models.storage import class_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

    from higgsbench.models.estimators import Sample
    from higgsbench.models.storage import ModelReader, ModelWriter, Node

_BINS_SEED = 1
"""Chooses the events that bins are learnt from. By default the model's seed does, so that each member of a bag would
have different bins."""

_NOT_NATIVE = ("class_weight", "importance_type", "n_estimators", "n_jobs", "objective", "random_state")
"""Parameters of the scikit-learn wrapper that the library itself lacks or names differently."""

_OTHER_NAMES = {
    "n_estimators": "num_iterations num_iteration n_iter num_tree num_trees num_round num_rounds nrounds "
    "num_boost_round max_iter",
    "early_stopping_rounds": "early_stopping_round early_stopping n_iter_no_change",
    "learning_rate": "shrinkage_rate eta",
    "num_leaves": "num_leaf max_leaves max_leaf max_leaf_nodes",
    "min_child_samples": "min_data_in_leaf min_data_per_leaf min_data min_samples_leaf",
    "min_child_weight": "min_sum_hessian_in_leaf min_sum_hessian_per_leaf min_sum_hessian min_hessian",
    "min_split_gain": "min_gain_to_split",
    "subsample": "bagging_fraction sub_row bagging",
    "subsample_freq": "bagging_freq",
    "subsample_for_bin": "bin_construct_sample_cnt",
    "colsample_bytree": "feature_fraction sub_feature",
    "feature_fraction_bynode": "sub_feature_bynode colsample_bynode",
    "reg_alpha": "lambda_l1 l1_regularization",
    "reg_lambda": "lambda_l2 lambda l2_regularization",
    "boosting_type": "boosting boost",
    "objective": "objective_type app application loss",
    "random_state": "seed random_seed",
    "n_jobs": "num_threads num_thread nthread nthreads",
    "verbosity": "verbose",
    "max_bin": "max_bins",
    "max_delta_step": "max_tree_output max_leaf_output",
    "drop_rate": "rate_drop",
    "linear_tree": "linear_trees",
    "extra_trees": "extra_tree",
    "monotone_constraints": "mc monotone_constraint monotonic_cst",
    "is_unbalance": "unbalance unbalanced_sets",
    "data_random_seed": "data_seed",
}
"""Other names of parameters, from the parameter page of LightGBM's documentation, by the name that presets use."""

_NATIVE = (
    *("boost_from_average", "cat_l2", "cat_smooth", "device", "device_type", "deterministic", "drop_rate"),
    *("extra_trees", "feature_fraction_bynode", "force_col_wise", "force_row_wise", "is_unbalance", "linear_lambda"),
    *("linear_tree", "max_bin", "max_delta_step", "max_drop", "min_data_in_bin", "monotone_constraints"),
    *("num_grad_quant_bins", "other_rate", "path_smooth", "scale_pos_weight", "skip_drop", "top_rate"),
    *("use_quantized_grad", "verbosity"),
)


def _build(params: Mapping[str, Any], context: BuildContext) -> Any:
    from lightgbm import LGBMClassifier

    from higgsbench.models.estimators import stopped_early

    # The same histogram order on any machine; the library would otherwise time both and pick the faster.
    fixed = {"deterministic": True, "force_col_wise": True, "verbosity": -1, "data_random_seed": _BINS_SEED}
    ours: dict[str, Any] = {"random_state": context.seed, "n_jobs": context.threads}

    def build(own: dict[str, Any]) -> Any:
        return LGBMClassifier(**ours, **{**fixed, **own})

    # The sample for the bins takes much memory; the default of 200,000 events is not better.
    return stopped_early({"subsample_for_bin": 20_000, **params}, context.seed, build, _until, LightGBMBins())


def _until(estimator: Any, train: Sample, aside: Sample, rounds: int) -> Any:
    """Train one `LGBMClassifier` by itself on one sample (X, y, weight), watching another."""
    from lightgbm import early_stopping

    X, y, w = train
    # LightGBM 4.7 gave eval_set two new names and warns of the old one.
    renamed = "eval_X" in inspect.signature(estimator.fit).parameters
    events = {"eval_X": aside[0], "eval_y": aside[1]} if renamed else {"eval_set": [aside[:2]]}
    watched = {**events, "eval_sample_weight": [aside[2]], "eval_metric": "binary_logloss"}
    return estimator.fit(X, y, sample_weight=w, callbacks=[early_stopping(rounds, verbose=False)], **watched)


class LightGBMBins:
    """LightGBM `Dataset` of a fold, and trees that stop early on parts of it."""

    def prepare(self, estimator: Any, X: NDArray[Any], y: NDArray[Any], weight: NDArray[np.float64]) -> Any:
        """Return the `Dataset` of X (n, p), y (n,) and weights (n,) for an unfitted `LGBMClassifier` of any seed.

        None where only the wrapper can train, or the library needs the events unbinned.
        """
        from lightgbm import Dataset

        params = estimator.get_params()
        if any(params.get(name) for name in ("class_weight", "objective", "linear_tree")):
            return None
        return Dataset(X, y, weight=weight, params=_native(estimator)).construct()

    def fit(
        self, estimator: Any, bins: Any, train: NDArray[np.intp], aside: NDArray[np.intp], rounds: int
    ) -> LoadedLightGBM:
        """Train on some rows until `rounds` rounds bring no gain on those aside; return trees up to the best."""
        import lightgbm

        booster = lightgbm.train(
            {**_native(estimator), "metric": "binary_logloss"},
            bins.subset(np.sort(train)),
            num_boost_round=estimator.n_estimators,
            valid_sets=[bins.subset(np.sort(aside))],
            callbacks=[lightgbm.early_stopping(rounds, verbose=False)],
        )
        return LoadedLightGBM(booster, estimator.n_jobs)


def _native(estimator: Any) -> dict[str, Any]:
    """Parameters as the library itself takes them."""
    own = {name: value for name, value in estimator.get_params().items() if name not in _NOT_NATIVE}
    fixed = {"objective": "binary", "num_threads": estimator.n_jobs, "seed": estimator.random_state}
    return {name: value for name, value in own.items() if value is not None} | fixed


def _with_categories(estimator: Any, count: int) -> Any:
    # The library accepts them under this parameter name, also for bins, without a warning.
    return estimator.set_params(cat_feature=list(range(count)))


def _log_odds(estimator: Any, X: NDArray[Any]) -> NDArray[Any]:
    # The booster itself: the wrapper of some versions warns of feature names, which arrays do not have.
    raw: NDArray[Any] = estimator.booster_.predict(X, raw_score=True)
    return raw


def _contributions(estimator: Any, X: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(estimator.booster_.predict(X, pred_contrib=True))


class LoadedLightGBM:
    """A LightGBM `Booster` used in place of an `LGBMClassifier` and its `booster_`.

    It predicts with these threads; by itself a booster read from text would take all cores.
    """

    def __init__(self, booster: Any, threads: int) -> None:
        self._booster, self._threads = booster, threads
        self.classes_ = np.array([0, 1])

    @property
    def booster_(self) -> LoadedLightGBM:
        """The booster, by the name that `LGBMClassifier` gives it."""
        return self

    def predict(self, X: ArrayLike, **more: Any) -> Any:
        """Return what the booster predicts, by default probabilities (n,)."""
        return self._booster.predict(X, num_threads=self._threads, **more)

    def model_to_string(self) -> str:
        """Return the library's text of the trees."""
        return str(self._booster.model_to_string())

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the probabilities (n, 2) of both classes."""
        p = np.asarray(self.predict(X))
        return np.column_stack([1.0 - p, p])


class _Codec:
    """`LGBMClassifier` as the library's text, which carries every digit."""

    kind = "lightgbm"

    def handles(self, estimator: Any) -> bool:
        return class_name(estimator) == "lightgbm.sklearn.LGBMClassifier" or isinstance(estimator, LoadedLightGBM)

    def save(self, estimator: Any, writer: ModelWriter) -> Node:
        return {"part": writer.part(estimator.booster_.model_to_string().encode(), "txt")}

    def load(self, node: Node, reader: ModelReader) -> Any:
        from lightgbm import Booster

        text = reader.part(node["part"]).decode("utf-8")
        return LoadedLightGBM(Booster(model_str=checked_text(text)), reader.threads)


_NUMBER = re.compile(r"[+-]?(\d{1,400}(\.\d{0,400})?([eE][+-]?\d{1,3})?|inf|nan)")
_WHOLE = re.compile(r"-?\d{1,9}")
_HEADER = {
    "version": (re.compile(r"v[234]"), 1),
    "num_class": (re.compile("1"), 1),
    "num_tree_per_iteration": (re.compile("1"), 1),
    "max_feature_idx": (re.compile(r"\d{1,9}"), 1),
    "objective": (re.compile(r"[a-z_]{1,40}(:[\w.+-]{1,40})?"), None),
    "feature_names": (re.compile(r"[^\s=\[\]{}\",:\\]{1,300}"), 0),
    "feature_infos": (re.compile(r"none|\[[^\s\[\]:]{1,60}:[^\s\[\]:]{1,60}\]|-?\d{1,9}(:-?\d{1,9}){0,9999}"), 0),
}
"""Lines of the header that the library needs: the form of their words, and how many; 0 for one per feature."""

_NODES = ("split_feature", "decision_type", "left_child", "right_child")
_TREE = {
    **dict.fromkeys((*_NODES, "internal_count"), (_WHOLE, -1)),
    **dict.fromkeys(("split_gain", "threshold", "internal_value", "internal_weight"), (_NUMBER, -1)),
    **dict.fromkeys(("leaf_value", "leaf_weight"), (_NUMBER, 0)),
    "leaf_count": (_WHOLE, 0),
}
"""Lists of a tree: the form of their words, and how many more words than leaves they have."""


def checked_text(text: str) -> str:
    """Return the trees of a model text as the library reads them safely; scores are the same to the last bit.

    The library indexes nodes and features as the text says, splits it at offsets that the text contains, and ends the
    whole process over some numbers that it cannot parse. So it only gets a text that is put together here from lines
    whose names, lengths and numbers were checked, without what it does not need to predict.

    Raises:
        StoreError: saying what is wrong.
    """
    header, *trees = text.split("\nTree=")
    values = _fields(header)
    features = len(values.get("feature_names", "").split(" "))
    if not header.startswith("tree") or not trees or values.get("max_feature_idx") != str(features - 1):
        raise StoreError("its LightGBM part is not a model text of that library")
    lines = ["tree", "label_index=0"]
    for name, (form, size) in _HEADER.items():
        words = _words("LightGBM", values, name, form, features if size == 0 else size)
        lines.append(f"{name}={' '.join(words)}")
    if "average_output" in header.splitlines():
        lines.append("average_output")
    for number, block in enumerate(trees):
        lines += ["", f"Tree={number}", *_checked_tree(f"LightGBM tree {number}", _fields(block), features), ""]
    return "\n".join([*lines, "", "end of trees", "", ""])


def _fields(block: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in block.split("\n\n")[0].splitlines() if "=" in line)


def _words(where: str, values: dict[str, str], name: str, form: re.Pattern[str], size: int | None) -> list[str]:
    words = values.get(name, "").split(" ")
    if (size is not None and len(words) != size) or not all(form.fullmatch(word) for word in words):
        raise StoreError(f"{where}: {name} does not have {size or 'some'} valid words")
    return words


def _checked_tree(where: str, values: dict[str, str], features: int) -> list[str]:
    if values.get("is_linear", "0") != "0":
        raise StoreError(f"{where} has linear leaves, which are not supported")
    leaves = int(_words(where, values, "num_leaves", _WHOLE, 1)[0])
    categories, sets = _checked_categories(where, values)
    names = [name for name in _TREE if name in values or not name.startswith("internal_")]
    lists = {
        name: _words(where, values, name, _TREE[name][0], leaves + _TREE[name][1])
        for name in (names if leaves != 1 else ["leaf_value"])
    }
    if leaves > 1:
        split, decision, *children = (np.array(lists[name], dtype=np.int64) for name in _NODES)
        own = np.arange(leaves - 1)
        # Nodes are numbered as they were split, so a child has a higher number than its parent: no cycles.
        inside = [np.where(c >= 0, (c > own) & (c < leaves - 1), ~c < leaves) for c in children]
        known = (split >= 0) & (split < features) & (decision >= 0) & (decision <= 15)
        # The threshold of a split on categories is the number of the set of categories that go left.
        chosen = np.array(lists["threshold"], dtype=np.float64)[decision & 1 == 1]
        if not np.all([*inside, known]) or not np.isin(chosen, np.arange(sets)).all():
            raise StoreError(f"{where} points to nodes or features that do not exist, or has unknown decisions")
    shrinkage = _words(where, values, "shrinkage", _NUMBER, 1)
    body = [f"{name}={' '.join(words)}" for name, words in lists.items()]
    return [f"num_leaves={leaves}", f"num_cat={sets}", *body, *categories, "is_linear=0", f"shrinkage={shrinkage[0]}"]


def _checked_categories(where: str, values: dict[str, str]) -> tuple[list[str], int]:
    """Return the lines with a tree's sets of categories (32-bit words, set after set), and the number of sets."""
    sets = int(_words(where, values, "num_cat", _WHOLE, 1)[0]) if "num_cat" in values else 0
    if sets == 0:
        return [], 0
    bounds = np.array(_words(where, values, "cat_boundaries", _WHOLE, sets + 1), dtype=np.int64)
    words = _words(where, values, "cat_threshold", re.compile(r"\d{1,10}"), int(bounds[-1]))
    if bounds[0] != 0 or (np.diff(bounds) < 1).any() or max(map(int, words)) >= 1 << 32:
        raise StoreError(f"{where}: its sets of categories are inconsistent")
    return [f"cat_boundaries={values['cat_boundaries']}", f"cat_threshold={' '.join(words)}"], sets


_LEAVES = {"num_leaves": 16, "learning_rate": 0.03, "min_child_samples": 50}
_COMMON = {**_LEAVES, "colsample_bytree": 0.5, "subsample": 0.8, "subsample_freq": 1}

MODELS = (
    ModelSpec(
        name="lightgbm",
        build=_build,
        description="LightGBM gradient boosting (leaf-wise)",
        presets={
            "quick": Preset({"n_estimators": 120, "num_leaves": 15, "learning_rate": 0.1}, **RAW),
            "good": Preset({**_COMMON, "n_estimators": 400}, **RAW),
            "best": Preset({**_COMMON, **STOPPED, "n_estimators": 3000, BAG: 4}, **PHYSICS),
        },
        missing=True,
        requires=("lightgbm", "numpy"),
        imports=("lightgbm",),
        log_odds=_log_odds,
        parameters=functools.partial(parameter_names, "lightgbm", "LGBMClassifier", *_NATIVE, *EARLY),
        aliases={other: name for name, others in _OTHER_NAMES.items() for other in others.split()},
        harness=("random_state", "n_jobs", "data_random_seed"),
        codecs=(_Codec(),),
        cost=1.5,
        memory=2.2,
        devices=("device", "device_type"),
        other_devices=("gpu",),
        rounds=("n_estimators",),
        contributions=_contributions,
        with_categories=_with_categories,
        **tuned(
            n_estimators=(100, 100, 3000, LOG),
            learning_rate=(0.1, 0.005, 0.3, LOG),
            num_leaves=(31, 4, 128, LOG),
            min_child_samples=(20, 5, 500, LOG),
            subsample=(1.0, 0.4, 1.0),
            colsample_bytree=(1.0, 0.2, 1.0),
            reg_alpha=(0.0, 0.0, 10.0),
            reg_lambda=(0.0, 0.0, 50.0),
        ),
    ),
)
