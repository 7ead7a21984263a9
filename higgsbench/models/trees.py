"""Trees of scikit-learn out of plain arrays, and the checks that make that safe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["MAX_FEATURES", "NODE_FIELDS", "fault_of_nodes", "tree_of"]

NODE_FIELDS = ("left_child", "right_child", "feature", "threshold", "missing_go_to_left")
"""What prediction needs of a node; impurities and event counts are left out."""

MAX_FEATURES = int(np.iinfo(np.int16).max)
"""Largest number of features that trees are kept of: their numbers take two bytes."""


def tree_of(nodes: Mapping[str, NDArray[Any]], share: NDArray[np.float64], depth: int, features: int) -> Any:
    """Make a tree of two classes.

    Args:
        nodes: arrays (nodes,) by the names of `NODE_FIELDS`.
        share: (nodes, 2) shares of the classes in each node.
        depth: of the deepest leaf.
        features: number of features.
    """
    from sklearn.tree._tree import Tree

    tree = Tree(features, np.array([2], dtype=np.intp), 1)
    table = np.zeros(len(share), dtype=tree.__getstate__()["nodes"].dtype)
    for name in NODE_FIELDS:
        table[name] = nodes[name]
    values = np.ascontiguousarray(share[:, None, :])
    tree.__setstate__({"max_depth": depth, "node_count": table.size, "nodes": table, "values": values})
    return tree


def fault_of_nodes(
    count: NDArray[Any], left: NDArray[Any], right: NDArray[Any], feature: NDArray[Any], features: int
) -> str:
    """Say what would make the library read outside its arrays or walk in circles; an empty text if nothing would.

    Args:
        count: (trees,) number of nodes of each tree.
        left: (nodes of all trees,) position of the child within its tree, -1 for a leaf.
        right: likewise.
        feature: (nodes of all trees,) number of the feature of a split.
        features: number of features.
    """
    count, left, right = (values.astype(np.int64) for values in (count, left, right))
    own = np.concatenate([np.arange(n) for n in count])
    size = np.repeat(count, count)
    leaf = (left == -1) & (right == -1)
    inside = (left > own) & (left < size) & (right > own) & (right < size)
    if not (leaf | inside).all():
        return "a tree of its forest points to a node that it does not have"
    split = feature[~leaf]
    if ((split < 0) | (split >= features)).any():
        return "a tree of its forest splits on a feature that the model does not have"
    return ""
