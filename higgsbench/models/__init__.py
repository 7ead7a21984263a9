"""Floor 2: one frozen record per model in a registry; each builds a scikit-learn-compatible estimator."""

from higgsbench.models.registry import get_model, model_names, register_model, registered_models
from higgsbench.models.spec import PRESETS, BuildContext, ModelSpec, Preset

__all__ = [
    "PRESETS",
    "BuildContext",
    "ModelSpec",
    "Preset",
    "get_model",
    "model_names",
    "register_model",
    "registered_models",
]
