"""Read fitted trees of XGBoost, LightGBM, CatBoost and scikit-learn into a common table.

All four compare single precision values: XGBoost x < t, the others x <= t. LightGBM and scikit-learn keep t in double
precision; for a single precision x, x <= t is the same as x <= (t rounded down to single precision).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from higgsbench.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


_CATEGORIES = "splits on categories cannot be exported; train without categorical features"


class Tree(NamedTuple):
    """Nodes (k,) of a tree, the root first.

    Attributes:
        feature, threshold: the comparison of a node.
        left, right: positions of the children; -1 for a leaf. An event goes left if its value is low.
        nan_left: whether a missing value goes left.
        value: (k, targets) contribution of a leaf.
    """

    feature: NDArray[np.int64]
    threshold: NDArray[np.float32]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    nan_left: NDArray[np.bool_]
    value: NDArray[np.float64]


@dataclass(frozen=True)
class Forest:
    """Trees whose values are added to `base`; `strict` if an event goes left for x < t, not for x <= t."""

    trees: Sequence[Tree]
    base: float = 0.0
    strict: bool = False


def rounded_down(threshold: ArrayLike) -> NDArray[np.float32]:
    """Return the largest single precision numbers that are not above these."""
    exact = np.asarray(threshold, dtype=np.float64)
    with np.errstate(over="ignore"):
        single = exact.astype(np.float32)
    return np.where(single > exact, np.nextafter(single, np.float32(-np.inf)), single)


def best_rounds(model: Any) -> Any:
    """Return the booster of an `XGBClassifier`, up to its best round if early stopping found one."""
    booster = model.get_booster()
    best = booster.attributes().get("best_iteration")
    return booster if best is None else booster[: int(best) + 1]


def xgboost_trees(model: Any) -> Forest:
    """Return the trees of an `XGBClassifier` up to its best round, from the library's JSON."""
    from xgboost import DMatrix

    booster = best_rounds(model)
    inner = json.loads(booster.save_raw("json"))["learner"]["gradient_booster"]
    if inner["name"] not in ("gbtree", "dart"):
        raise ModelError(f"XGBoost's booster {inner['name']} has no trees to export")
    drawn = inner.get("gbtree", inner)["model"]["trees"]
    trees = []
    for tree, weight in zip(drawn, inner.get("weight_drop") or [1.0] * len(drawn), strict=True):
        if any(tree["split_type"]):
            raise ModelError(_CATEGORIES)
        left, right = np.array(tree["left_children"]), np.array(tree["right_children"])
        split = np.array(tree["split_conditions"], dtype=np.float32)
        where = np.array(tree["split_indices"]), split, left, right, np.array(tree["default_left"], dtype=np.bool_)
        trees.append(Tree(*where, weight * split[:, None].astype(np.float64)))
    # The form of base_score differs between versions and objectives; the difference of two predictions does not.
    event = np.full((1, model.n_features_in_), np.nan, dtype=np.float32)
    events = DMatrix(event), DMatrix(event, base_margin=np.zeros(1))
    margins = [float(booster.predict(data, output_margin=True)[0]) for data in events]
    return Forest(trees, margins[0] - margins[1], strict=True)


def lightgbm_trees(model: Any) -> Forest:
    """Return the trees of an `LGBMClassifier` or of its stored form, from the library's text."""
    _, *blocks = model.booster_.model_to_string().split("\nTree=")
    trees = []
    for block in blocks:
        fields = dict(line.split("=", 1) for line in block.split("\n\n")[0].splitlines() if "=" in line)
        values = {name: np.array(fields[name].split(), dtype=np.float64) for name in _OF_LIGHTGBM if name in fields}
        leaves = values["leaf_value"].size
        if leaves == 1:
            values = {name: np.empty(0) for name in _OF_LIGHTGBM} | {"leaf_value": values["leaf_value"]}
        decision = values["decision_type"].astype(np.int64)
        if (decision & 1).any():
            raise ModelError(_CATEGORIES)
        missing = decision >> 2 & 3  # 0: NaN counts as zero, 1: zero is missing, 2: NaN is missing
        if (missing == 1).any():
            raise ModelError("LightGBM trees trained with zero_as_missing cannot be exported")
        nan_left = np.where(missing == 2, decision & 2 != 0, values["threshold"] >= 0.0)
        children = [values[name].astype(np.int64) for name in ("left_child", "right_child")]
        children = [np.where(child < 0, leaves - 2 - child, child) for child in children]  # leaves follow the nodes
        end, leaf = np.zeros(leaves), np.full(leaves, -1)
        trees.append(
            Tree(
                np.append(values["split_feature"], end).astype(np.int64),
                rounded_down(np.append(values["threshold"], end)),
                np.append(children[0], leaf),
                np.append(children[1], leaf),
                np.append(nan_left, end).astype(np.bool_),
                np.append(np.zeros(leaves - 1), values["leaf_value"])[:, None],
            )
        )
    return Forest(trees)


_OF_LIGHTGBM = ("split_feature", "threshold", "decision_type", "left_child", "right_child", "leaf_value")


def catboost_trees(model: Any) -> Forest:
    """Return the trees of a `CatBoostClassifier`, from the library's JSON."""
    with tempfile.TemporaryDirectory(prefix="higgsbench-") as folder:
        file = Path(folder) / "model.json"  # the library can only write files
        model.save_model(str(file), format="json")
        content = json.loads(file.read_text(encoding="utf-8"))
    floats = content["features_info"].get("float_features") or []
    columns = {f["feature_index"]: (f["flat_feature_index"], f["nan_value_treatment"] != "AsTrue") for f in floats}
    scale, (bias,) = content["scale_and_bias"]
    trees = []
    for described in content.get("oblivious_trees") or content.get("trees") or []:
        tree = _flat(_nested(described) if "leaf_values" in described else described, columns)
        trees.append(tree._replace(value=scale * tree.value))
    return Forest(trees, float(bias))


def _nested(tree: dict[str, Any]) -> dict[str, Any]:
    """Write an oblivious tree (one split per level) as nodes; bit i of a leaf's number is the result of split i."""
    nodes = [{"value": value} for value in tree["leaf_values"]]
    for split in tree["splits"] or ():
        nodes = [
            {"split": split, "left": low, "right": high} for low, high in zip(nodes[::2], nodes[1::2], strict=True)
        ]
    return nodes[0]


def _flat(root: dict[str, Any], columns: dict[int, tuple[int, bool]]) -> Tree:
    """Return the table of nested nodes; `columns` has the position of each feature and the branch of missing values."""
    rows: list[list[float]] = []

    def add(node: dict[str, Any]) -> int:
        at = len(rows)
        rows.append([0.0, 0.0, -1.0, -1.0, 0.0, node.get("value", 0.0)])
        if "split" in node:
            split = node["split"]
            if split.get("split_type", "FloatFeature") != "FloatFeature":
                raise ModelError(_CATEGORIES)
            column, nan_left = columns[split["float_feature_index"]]
            rows[at][:5] = [column, split["border"], add(node["left"]), add(node["right"]), nan_left]
        return at

    add(root)
    feature, threshold, left, right, nan_left, value = np.array(rows).T
    where = feature.astype(np.int64), threshold.astype(np.float32)
    return Tree(*where, left.astype(np.int64), right.astype(np.int64), nan_left != 0.0, value[:, None])


def sklearn_trees(model: Any) -> Forest:
    """Return the trees of a scikit-learn forest; their values (k, 2) add up to the probabilities of both classes."""
    trees = []
    for estimator in model.estimators_:
        t = estimator.tree_
        values = t.value[:, 0, :] / t.value[:, 0, :].sum(axis=1, keepdims=True) / len(model.estimators_)
        nan_left = np.asarray(t.missing_go_to_left, dtype=np.bool_)
        trees.append(Tree(t.feature, rounded_down(t.threshold), t.children_left, t.children_right, nan_left, values))
    return Forest(trees)


def lookup_tree(column: int, bounds: NDArray[np.float32], values: NDArray[np.float64]) -> Tree:
    """Return a balanced tree that gives row j of values (k, targets) where bounds[j-1] < x <= bounds[j] (k - 1,)."""

    def nested(first: int, last: int) -> dict[str, Any]:
        if first == last:
            return {"value": first}
        middle = (first + last) // 2
        split = {"border": bounds[middle], "float_feature_index": column}
        return {"split": split, "left": nested(first, middle), "right": nested(middle + 1, last)}

    tree = _flat(nested(0, len(values) - 1), {column: (column, False)})
    return tree._replace(value=values[tree.value[:, 0].astype(np.int64)])
