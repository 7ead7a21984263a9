"""A look at a LightGBM model text before the library reads it.

The library indexes nodes and features as the text says. A text whose trees refer to nodes or features that are not
there would make it read outside its arrays, so such a text is refused here.
"""

from __future__ import annotations

import numpy as np

from higgsbench.errors import StoreError

__all__ = ["check_text"]


def check_text(text: str) -> None:
    """Refuse a model text whose trees point outside themselves.

    Raises:
        StoreError: saying what is wrong.
    """
    header, *trees = text.split("\nTree=")
    features = int(_fields(header).get("max_feature_idx", "-1")) + 1
    if not header.startswith("tree") or features < 1 or not trees:
        raise StoreError("its LightGBM part is no model text of that library")
    for number, block in enumerate(trees):
        _check_tree(number, _fields(block.split("\n\n")[0]), features)


def _fields(block: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in block.splitlines() if "=" in line)


def _numbers(values: dict[str, str], name: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(values.get(name, "").split(), dtype=np.int64)


def _check_tree(number: int, values: dict[str, str], features: int) -> None:
    leaves = int(values["num_leaves"])
    if int(values.get("num_cat", "0")) != 0 or values.get("is_linear", "0") != "0":
        raise StoreError(f"LightGBM tree {number} has splits on categories or linear leaves, which are not read")
    size = len(values["leaf_value"].split())
    if leaves < 1 or size != leaves:
        raise StoreError(f"LightGBM tree {number} has {size} leaf values for {leaves} leaves")
    if leaves == 1:
        return
    for name in ("split_feature", "threshold", "decision_type", "left_child", "right_child"):
        if len(values[name].split()) != leaves - 1:
            raise StoreError(f"LightGBM tree {number}: {name} does not have {leaves - 1} values")
    split = _numbers(values, "split_feature")
    own = np.arange(leaves - 1)
    # Nodes are numbered as they were split, so a child has a higher number than its parent: no circles.
    for child in (_numbers(values, "left_child"), _numbers(values, "right_child")):
        good = np.where(child >= 0, (child > own) & (child < leaves - 1), ~child < leaves)
        if not good.all():
            raise StoreError(f"LightGBM tree {number} points to a node that it does not have")
    if ((split < 0) | (split >= features)).any():
        raise StoreError(f"LightGBM tree {number} splits on a feature that the model does not have")
