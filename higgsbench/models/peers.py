"""Other AutoML frameworks as opponents: models of the extras `autogluon` and `flaml`.

They run under the same folds, weights and metrics as everything else. Their time limit is per fit: a run of five folds
takes five times as long, a split by jet number once more per group.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from higgsbench.models.spec import BuildContext, ModelSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PEERS"]


def _build_autogluon(params: Mapping[str, Any], context: BuildContext) -> Any:
    from higgsbench.models.peer_autogluon import AutoGluonClassifier

    return AutoGluonClassifier(n_jobs=context.threads, random_state=context.seed, **params)


def _build_flaml(params: Mapping[str, Any], context: BuildContext) -> Any:
    from higgsbench.models.peer_flaml import FlamlClassifier

    return FlamlClassifier(n_jobs=context.threads, random_state=context.seed, **params)


def _autogluon_names() -> frozenset[str]:
    return frozenset({"time_limit", "presets", "hyperparameters", "unweighted_members"})


def _flaml_names() -> frozenset[str]:
    return frozenset({"time_limit", "estimator_list"})


_LEARNERS = ("scikit-learn", "numpy", "lightgbm", "xgboost", "catboost")

PEERS: tuple[ModelSpec, ...] = (
    ModelSpec(
        name="autogluon",
        build=_build_autogluon,
        description="AutoGluon: bagged and stacked portfolio of models, time limit per fit",
        presets={
            "quick": {"time_limit": 12, "presets": "medium_quality"},
            "good": {"time_limit": 60, "presets": "best_quality"},
            "best": {"time_limit": 300, "presets": "best_quality"},
        },
        missing=True,
        extra="autogluon",
        requires=("autogluon.tabular", *_LEARNERS),
        imports=("autogluon.tabular",),
        parameters=_autogluon_names,
        reproducible=False,
        cost=200.0,
    ),
    ModelSpec(
        name="flaml",
        build=_build_flaml,
        description="FLAML: search for one model and its parameters, time limit per fit",
        presets={"quick": {"time_limit": 10}, "good": {"time_limit": 60}, "best": {"time_limit": 180}},
        missing=True,
        extra="flaml",
        requires=("flaml", *_LEARNERS),
        imports=("flaml", "pandas"),
        parameters=_flaml_names,
        reproducible=False,
        cost=120.0,
    ),
)
"""AutoML frameworks that higgsbench can run as models."""
