"""The random forest of scikit-learn."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from higgsbench.models.builtin import PHYSICS, RAW, parameter_names
from higgsbench.models.spec import BuildContext, ModelSpec, Preset

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_NODE = 80.0
"""Bytes of a node of a tree in scikit-learn."""

_NODES = 0.55
"""Nodes per event and tree, times the smallest leaf."""


def smallest_leaf(events: int | None) -> int:
    """Smallest leaf of a forest, unless given; grows with the events, because larger trees would not be better."""
    return 5 if events is None else max(5, min(events // 10_000, 20), min(events // 20_000, 30))


def _build(params: Mapping[str, Any], context: BuildContext) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    own = {"min_samples_leaf": smallest_leaf(context.events), **params}
    return RandomForestClassifier(random_state=context.seed, n_jobs=context.threads, **own)


def _log_odds(estimator: Any, X: NDArray[Any]) -> NDArray[Any]:
    from higgsbench.models.estimators import read_log_odds

    # Use one thread: with several, the library sums the trees in the order in which threads finish; results vary.
    return read_log_odds(estimator.set_params(n_jobs=1), X)


def _memory(params: Mapping[str, Any], events: int, columns: int) -> float:
    """Copies of the matrix, and the trees, which are all kept."""
    share, leaf = params.get("max_samples") or 1.0, params.get("min_samples_leaf", smallest_leaf(events))
    drawn = share * events if isinstance(share, float) else min(float(share), events)
    nodes = 2.0 * drawn if leaf == 1 else _NODES * drawn / (leaf if isinstance(leaf, int) else leaf * events)
    trees: int = params.get("n_estimators", 100)
    return float(2.5 + trees * _NODE * nodes / (4.0 * events * columns))


def _space() -> dict[str, Any]:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    return {
        "n_estimators": IntDistribution(50, 400, step=10),
        "min_samples_leaf": IntDistribution(1, 100, log=True),
        "max_features": CategoricalDistribution(("sqrt", 0.15, 0.3, 0.5)),
        "max_samples": FloatDistribution(0.2, 0.9),
        "min_impurity_decrease": FloatDistribution(0.0, 1e-4),
    }


_FOREST = {"max_features": "sqrt", "max_samples": 0.5}

MODELS = (
    ModelSpec(
        name="random_forest",
        build=_build,
        description="Random forest of scikit-learn",
        presets={
            "quick": Preset({**_FOREST, "n_estimators": 60}, **RAW),
            "good": Preset({**_FOREST, "n_estimators": 200}, **RAW),
            "best": Preset({**_FOREST, "n_estimators": 400}, **PHYSICS),
        },
        missing=True,
        requires=("scikit-learn", "numpy", "scipy"),
        log_odds=_log_odds,
        parameters=functools.partial(parameter_names, "sklearn.ensemble", "RandomForestClassifier"),
        harness=("random_state", "n_jobs"),
        cost=4.0,
        search_space=_space,
        defaults={"n_estimators": 100, "min_samples_leaf": 5, "max_features": "sqrt", "min_impurity_decrease": 0.0},
        memory=_memory,
        rounds=("n_estimators",),
        merit=0.75,
    ),
)
