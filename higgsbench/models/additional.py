"""Models beyond the six: networks trained with torch (an extra) and scikit-learn's histogram boosting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from higgsbench.models.spec import BuildContext, ModelSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ADDITIONAL"]


def _build_torch_mlp(params: Mapping[str, Any], context: BuildContext) -> Any:
    from higgsbench.models.packed import PackedMLPClassifier

    return PackedMLPClassifier(random_state=context.seed, num_threads=context.threads, **params).check()


def _torch_mlp_names() -> frozenset[str]:
    from higgsbench.models.packed import PackedMLPClassifier

    return frozenset(set(PackedMLPClassifier().get_params()) - {"random_state", "num_threads"})


def _build_hist_gradient_boosting(params: Mapping[str, Any], context: BuildContext) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    # The library otherwise stops early, by itself and only above 10,000 events.
    return HistGradientBoostingClassifier(random_state=context.seed, **{"early_stopping": False, **params})


def _hist_gradient_boosting_names() -> frozenset[str]:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return frozenset(set(HistGradientBoostingClassifier().get_params()) - {"random_state"})


ADDITIONAL: tuple[ModelSpec, ...] = (
    ModelSpec(
        name="torch_mlp",
        build=_build_torch_mlp,
        description="Packed ensemble of multi-layer perceptrons, trained at once with torch",
        presets={
            "quick": {"members": 2, "hidden_layer_sizes": [64, 64], "epochs": 8},
            "good": {"members": 8, "hidden_layer_sizes": [64, 64, 64], "epochs": 15},
            "best": {"members": 16, "hidden_layer_sizes": [96, 96, 96], "epochs": 15},
        },
        requires=("torch", "numpy"),
        imports=("torch",),
        extra="torch",
        parameters=_torch_mlp_names,
        cost=10.0,
    ),
    ModelSpec(
        name="hist_gradient_boosting",
        build=_build_hist_gradient_boosting,
        description="Histogram gradient boosting of scikit-learn",
        presets={
            "quick": {"max_iter": 100, "max_leaf_nodes": 15, "learning_rate": 0.1, "min_samples_leaf": 40},
            "good": {
                "max_iter": 300,
                "max_leaf_nodes": 15,
                "learning_rate": 0.04,
                "min_samples_leaf": 40,
                "l2_regularization": 5.0,
                "max_features": 0.5,
            },
        },
        missing=True,
        requires=("scikit-learn", "numpy"),
        parameters=_hist_gradient_boosting_names,
        cost=2.0,
    ),
)
"""Further models that come with higgsbench, after the six of `higgsbench.models.builtin`."""
