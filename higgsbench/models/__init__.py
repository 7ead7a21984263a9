"""Layer 2: one frozen record per model in a registry; each builds a scikit-learn-compatible estimator.

The registry finds the models that come with higgsbench in the modules of `higgsbench.models.builtin`; installed
packages add more through the entry-point group `higgsbench.models`.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

from higgsbench.errors import ModelError
from higgsbench.models.spec import PRESETS, BuildContext, ModelSpec, Preset
from higgsbench.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from higgsbench.models.storage import Codec

__all__ = [
    "PRESETS",
    "BuildContext",
    "ModelSpec",
    "Preset",
    "get_model",
    "model_names",
    "register_model",
    "registered_models",
    "storage_codecs",
]


def _builtin() -> Sequence[ModelSpec]:
    """Records of all modules in the package `builtin`, those that need no extra first, by name."""
    package = importlib.import_module(f"{__name__}.builtin")
    modules = (importlib.import_module(f"{package.__name__}.{m.name}") for m in pkgutil.iter_modules(package.__path__))
    return sorted((spec for module in modules for spec in module.MODELS), key=lambda s: (s.extra is not None, s.name))


_MODELS = Registry("model", ModelSpec, "higgsbench.ModelSpec", _builtin, "higgsbench.models", ModelError)

registered_models = _MODELS.all
get_model = _MODELS.get
"""Return the model of this name; if there is none, a `ModelError` suggests the nearest known name."""


def register_model(spec: ModelSpec, *, replace: bool = False) -> ModelSpec:
    """Add a model to the registry of this process and return its record.

    Args:
        spec: the model's record.
        replace: whether it may replace a model of the same name.

    Raises:
        ModelError: if the name is taken and `replace` is false, or `spec` is not a `ModelSpec`.

    Example:
        >>> from sklearn.ensemble import ExtraTreesClassifier
        >>> def build(params, context):
        ...     return ExtraTreesClassifier(**params, random_state=context.seed, n_jobs=context.threads)
        >>> spec = higgsbench.register_model(higgsbench.ModelSpec("extra_trees", build))
        >>> result = higgsbench.run("quick", data="events.csv", only=["extra_trees"], settings=["models=[extra_trees]"])
        >>> result.rows[0]["model"]
        'extra_trees'
    """
    return _MODELS.add(spec, replace=replace)


def model_names() -> tuple[str, ...]:
    """Return the names of all registered models."""
    return tuple(spec.name for spec in registered_models())


def storage_codecs(spec: ModelSpec) -> tuple[Codec, ...]:
    """Return the formats in which fitted estimators of a model may be stored: its own, then those of all models."""
    return (*spec.codecs, *(codec for other in registered_models() for codec in other.codecs))
