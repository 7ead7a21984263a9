"""How much memory fits of the built-in models take, in multiples of the float32 matrix of their training events.

The figures are those of results/reference/memory.md, rounded up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CATBOOST", "LIGHTGBM", "MLP", "QUADRATIC", "XGBOOST", "forest_memory", "logistic_memory"]

LIGHTGBM, XGBOOST, CATBOOST, MLP = 2.6, 2.7, 4.2, 7.0

QUADRATIC = frozenset({"C", "max_iter", "tol"})
"""Parameters with which a logistic regression of degree 2 needs no table of products."""

_NODE = 80.0
"""Bytes of a node of a forest's tree: 64, and two class weights."""

_NODES = 0.55
"""Nodes per event and tree, times the smallest leaf; 0.11 on 10,000 to 40,000 simulated events with leaves of 5."""


def forest_memory(params: Mapping[str, Any], events: int, columns: int) -> float:
    """Copies of the matrix, and the trees, which are all kept."""
    share, leaf = params.get("max_samples") or 1.0, params.get("min_samples_leaf", 1)
    drawn = share * events if isinstance(share, float) else min(float(share), events)
    nodes = 2.0 * drawn if leaf == 1 else _NODES * drawn / (leaf if isinstance(leaf, int) else leaf * events)
    trees: int = params.get("n_estimators", 100)
    return float(2.5 + trees * _NODE * nodes / (4.0 * events * columns))


def logistic_memory(params: Mapping[str, Any], events: int, columns: int) -> float:
    """Copies of the matrix with flags of missing values, widened by products of pairs where the degree is 2."""
    wide = 1.4 * columns
    if params.get("degree", 1) > 1 and not params.keys() - {"degree", "bag"} <= QUADRATIC:
        wide = wide * (wide + 3.0) / 2.0
    return 3.0 + 3.4 * wide / columns
