"""A LightGBM model text, checked and written anew before the library reads it.

The library indexes nodes and features as the text says, splits it at offsets that stand in the text itself, and ends
the whole process over some numbers that it cannot parse. So it only ever gets a text put together here from lines
whose names, lengths and numbers were checked.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from higgsbench.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["checked_text"]

_NUMBER = re.compile(r"[+-]?(\d{1,400}(\.\d{0,400})?([eE][+-]?\d{1,3})?|inf|nan)")
_WHOLE = re.compile(r"-?\d{1,9}")
_OBJECTIVE = re.compile(r"[a-z_]{1,40}( [a-z_]{1,40}(:[\w.+-]{1,40})?){0,5}")
_INFO = re.compile(r"none|\[[^\s\[\]:]{1,60}:[^\s\[\]:]{1,60}\]")
_NAME = re.compile(r"[^\s=\[\]{}\",:\\]{1,300}")

_PER_NODE = ("split_feature", "split_gain", "threshold", "decision_type", "left_child", "right_child")
_PER_INNER = ("internal_value", "internal_weight", "internal_count")
_PER_LEAF = ("leaf_value", "leaf_weight", "leaf_count")
_WHOLE_LISTS = frozenset(
    {"split_feature", "decision_type", "left_child", "right_child", "leaf_count", "internal_count"}
)


def checked_text(text: str) -> str:
    """Return the trees of a model text as the library reads them safely; scores are the same to the last bit.

    What the library does not need in order to predict (sizes, importances, parameters of the training) is left out.

    Raises:
        StoreError: saying what is wrong.
    """
    header, *trees = text.split("\nTree=")
    values = _fields(header)
    features = _whole(values, "max_feature_idx") + 1 if "max_feature_idx" in values else 0
    if not header.startswith("tree") or features < 1 or not trees:
        raise StoreError("its LightGBM part is no model text of that library")
    lines = [*_checked_header(header, values, features), ""]
    for number, block in enumerate(trees):
        lines += [f"Tree={number}", *_checked_tree(number, _fields(block.split("\n\n")[0]), features), "", ""]
    return "\n".join([*lines, "end of trees", "", ""])


def _fields(block: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in block.splitlines() if "=" in line)


def _whole(values: dict[str, str], name: str) -> int:
    text = values.get(name, "")
    if not _WHOLE.fullmatch(text):
        raise StoreError(f"its LightGBM part has no whole number {name}")
    return int(text)


def _checked_header(header: str, values: dict[str, str], features: int) -> list[str]:
    if _whole(values, "num_class") != 1 or _whole(values, "num_tree_per_iteration") != 1:
        raise StoreError("its LightGBM part has trees for more than two classes")
    if values.get("version") not in ("v2", "v3", "v4"):
        raise StoreError("its LightGBM part is of a version that is not known")
    if not _OBJECTIVE.fullmatch(values.get("objective", "")):
        raise StoreError("its LightGBM part has no objective")
    for name, form in (("feature_names", _NAME), ("feature_infos", _INFO)):
        words = values.get(name, "").split(" ")
        if len(words) != features or not all(form.fullmatch(word) for word in words):
            raise StoreError(f"its LightGBM part does not have {features} {name}")
    known = ("version", "num_class", "num_tree_per_iteration", "objective", "feature_names", "feature_infos")
    kept = [f"{name}={values[name]}" for name in known]
    mean = ["average_output"] if "average_output" in header.splitlines() else []
    return ["tree", *kept[:3], "label_index=0", f"max_feature_idx={features - 1}", kept[3], *mean, *kept[4:]]


def _checked_tree(number: int, values: dict[str, str], features: int) -> list[str]:
    leaves = _whole(values, "num_leaves")
    if values.get("num_cat", "0") != "0" or values.get("is_linear", "0") != "0":
        raise StoreError(f"LightGBM tree {number} has splits on categories or linear leaves, which are not read")
    if leaves < 1:
        raise StoreError(f"LightGBM tree {number} has no leaves")
    lists = {"leaf_value": _list(number, values, "leaf_value", leaves)}
    if leaves > 1:
        lists |= {name: _list(number, values, name, leaves - 1) for name in _PER_NODE}
        lists |= {name: _list(number, values, name, leaves - 1) for name in _PER_INNER if name in values}
        lists |= {name: _list(number, values, name, leaves) for name in _PER_LEAF}
        _check_nodes(
            number, {name: np.array(lists[name], dtype=np.int64) for name in _WHOLE_LISTS & set(_PER_NODE)}, features
        )
    shrinkage = _list(number, values, "shrinkage", 1)
    order = ("split_feature", *_PER_NODE[1:], *_PER_LEAF, *_PER_INNER)
    body = [f"{name}={' '.join(lists[name])}" for name in order if name in lists]
    return [f"num_leaves={leaves}", "num_cat=0", *body, "is_linear=0", f"shrinkage={shrinkage[0]}"]


def _list(number: int, values: dict[str, str], name: str, size: int) -> Sequence[str]:
    words = values.get(name, "").split(" ")
    form = _WHOLE if name in _WHOLE_LISTS else _NUMBER
    if len(words) != size:
        raise StoreError(f"LightGBM tree {number}: {name} does not have {size} values")
    if not all(form.fullmatch(word) for word in words):
        raise StoreError(f"LightGBM tree {number}: {name} holds what is no number")
    return words


def _check_nodes(number: int, nodes: dict[str, np.ndarray[tuple[int], np.dtype[np.int64]]], features: int) -> None:
    split = nodes["split_feature"]
    leaves, own = split.size + 1, np.arange(split.size)
    # Nodes are numbered as they were split, so a child has a higher number than its parent: no circles.
    for child in (nodes["left_child"], nodes["right_child"]):
        good = np.where(child >= 0, (child > own) & (child < leaves - 1), ~child < leaves)
        if not good.all():
            raise StoreError(f"LightGBM tree {number} points to a node that it does not have")
    if ((split < 0) | (split >= features)).any():
        raise StoreError(f"LightGBM tree {number} splits on a feature that the model does not have")
    if ((nodes["decision_type"] < 0) | (nodes["decision_type"] > 15) | (nodes["decision_type"] & 1 == 1)).any():
        raise StoreError(f"LightGBM tree {number} decides in a way that is not known")
