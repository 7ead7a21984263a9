"""How much memory fits of the built-in models take, in multiples of the float32 matrix of their training events.

The figures are those of results/reference/memory.md, rounded up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "CATBOOST",
    "LIGHTGBM",
    "QUADRATIC",
    "XGBOOST",
    "forest_leaf",
    "forest_memory",
    "logistic_memory",
    "mlp_memory",
]

LIGHTGBM, XGBOOST, CATBOOST = 2.2, 2.7, 4.2

QUADRATIC = frozenset({"C", "max_iter", "tol"})
"""Parameters with which a logistic regression of degree 2 needs no table of products."""

_FLAGGED = 1.4
"""Columns after the imputation, for each before it."""

_NODE = 15.0
"""Bytes of a node of a forest's tree, as `CompactForestClassifier` keeps it."""

_NODES = 0.55
"""Nodes per event and tree, times the smallest leaf; 0.11 on 10,000 to 40,000 simulated events with leaves of 5."""


def forest_leaf(events: int | None) -> int:
    """Smallest leaf of a forest, where none is given: 5 events up to 50,000, 20 from 200,000, 30 from 600,000.

    Trees of which leaves hold the same number of events grow with the events. On 200,000 simulated ones leaves of 20
    are as good as leaves of 5 (AUC .9293 and .9294), at .37 of the nodes and .7 of the time; leaves of 50 are not
    (.9279), nor are 10 or 20 on 50,000 (.9259 and .9256; 5: .9262). On 250,000: 20, 30, 40 .9300, .9294, .9292.
    """
    return 5 if events is None else max(5, min(events // 10_000, 20), min(events // 20_000, 30))


def forest_memory(params: Mapping[str, Any], events: int, columns: int) -> float:
    """Copies of the matrix, and the trees, which are all kept."""
    share, leaf = params.get("max_samples") or 1.0, params.get("min_samples_leaf", forest_leaf(events))
    drawn = share * events if isinstance(share, float) else min(float(share), events)
    nodes = 2.0 * drawn if leaf == 1 else _NODES * drawn / (leaf if isinstance(leaf, int) else leaf * events)
    trees: int = params.get("n_estimators", 100)
    return float(2.5 + trees * _NODE * nodes / (4.0 * events * columns))


def logistic_memory(params: Mapping[str, Any], events: int, columns: int) -> float:
    """Copies of the matrix with flags of missing values; where products of pairs are made, of their table too."""
    wide = _FLAGGED * columns
    if params.get("degree", 1) == 1 or params.keys() - {"degree", "bag"} <= QUADRATIC:
        return 1.0 + 2.5 * _FLAGGED
    return 3.0 + 3.4 * wide * (wide + 3.0) / 2.0 / columns


def mlp_memory(params: Mapping[str, Any], events: int, columns: int) -> float:
    """Copies of the matrix with flags; clipped values are of double precision."""
    return 1.0 + (3.5 if params.get("scaling") == "clip" else 2.5) * _FLAGGED
