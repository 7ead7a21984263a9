"""Floor 2: one frozen record per model in a registry; each builds a scikit-learn-compatible estimator."""

from higgsbench.models.registry import (
    PRESETS,
    BuildContext,
    ModelSpec,
    get_model,
    model_names,
    register_model,
    registered_models,
)

__all__ = ["PRESETS", "BuildContext", "ModelSpec", "get_model", "model_names", "register_model", "registered_models"]
