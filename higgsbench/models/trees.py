"""Trees of scikit-learn out of plain arrays, and the checks that make that safe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["MAX_FEATURES", "MAX_TREES", "NODE_FIELDS", "fault_of_nodes", "fitted_on_two_classes", "tree_of"]

NODE_FIELDS = ("left_child", "right_child", "feature", "threshold", "missing_go_to_left")
"""What prediction needs of a node; impurities and event counts are left out."""

MAX_FEATURES = int(np.iinfo(np.int16).max)
"""Largest number of features that trees are kept of: their numbers take two bytes."""

MAX_TREES = 100_000
"""Largest number of trees that are read: as objects they take 2 kB each, however small they are in a file."""


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


def fitted_on_two_classes(estimator: Any, features: int) -> Any:
    """Give a tree or forest what scikit-learn's `fit` leaves beside the nodes, for classes 0 and 1; return it."""
    estimator.n_features_in_, estimator.n_outputs_, estimator.n_classes_ = features, 1, 2
    estimator.classes_ = np.array([0, 1])
    return estimator


def fault_of_nodes(
    count: NDArray[Any],
    depth: NDArray[Any],
    left: NDArray[Any],
    right: NDArray[Any],
    feature: NDArray[Any],
    features: int,
) -> str:
    """Say what would make the library read or write outside its arrays, or walk in circles; "" if nothing would.

    Args:
        count: (trees,) number of nodes of each tree.
        depth: (trees,) depth of the deepest leaf of each, for which the library makes room.
        left: (nodes of all trees,) position of the child within its tree, -1 for a leaf.
        right: likewise.
        feature: (nodes of all trees,) number of the feature of a split.
        features: number of features.
    """
    integers = (count, depth, left, right, feature)
    if any(values.dtype.kind not in "iu" or values.ndim != 1 for values in integers):
        return "the positions in its forest are no whole numbers"
    count, depth, left, right, feature = (values.astype(np.int64) for values in integers)
    if not 0 < count.size <= MAX_TREES or count.min() < 1 or depth.shape != count.shape:
        return f"its forest has no trees, more than {MAX_TREES:,}, or one without nodes"
    if not 0 < features <= MAX_FEATURES:
        return f"its forest is one of {features} features"
    nodes = int(count.sum())
    if any(values.shape != (nodes,) for values in (left, right, feature)):
        return "the arrays of its forest do not fit together"
    root = np.cumsum(count) - count
    first, size = np.repeat(root, count), np.repeat(count, count)
    own = np.arange(nodes) - first
    leaf = (left == -1) & (right == -1)
    inside = (left > own) & (left < size) & (right > own) & (right < size)
    if not (leaf | inside).all():
        return "a tree of its forest points to a node that it does not have"
    if ((feature < 0) | (feature >= features))[~leaf].any():
        return "a tree of its forest splits on a feature that the model does not have"
    # Every node but the roots is the child of one, so that the levels below are walked through once.
    children = np.concatenate([(first + side)[~leaf] for side in (left, right)])
    if not np.array_equal(np.sort(children), np.delete(np.arange(nodes), root)):
        return "a tree of its forest has a node that is not the child of one other"
    found = np.zeros_like(count)
    tree = np.repeat(np.arange(count.size), count)
    level, below = root, 0
    while (level := level[~leaf[level]]).size:
        below += 1
        found[tree[level]] = below
        level = np.concatenate([first[level] + side[level] for side in (left, right)])
    return "" if np.array_equal(found, depth) else "a tree of its forest is not as deep as it says"
