"""The registry: one frozen record per model; a registered model is a tested model."""

from __future__ import annotations

from collections.abc import Sequence

from higgsbench.errors import ModelError
from higgsbench.models.spec import ModelSpec
from higgsbench.registry import Registry

__all__ = ["get_model", "model_names", "register_model", "registered_models"]


def _builtin() -> Sequence[ModelSpec]:
    from higgsbench.models.builtin import BUILTIN
    from higgsbench.models.peers import PEERS

    return (*BUILTIN, *PEERS)


_MODELS = Registry("model", ModelSpec, "higgsbench.ModelSpec", _builtin, "higgsbench.models", ModelError)


def register_model(spec: ModelSpec, *, replace: bool = False) -> ModelSpec:
    """Add a model to the registry of this process.

    Args:
        spec: the model's record.
        replace: whether a model of the same name may be replaced.

    Returns:
        The record, so that the call can stand in an assignment.

    Raises:
        ModelError: if the name is taken and `replace` is false, or this is no `ModelSpec`.
    """
    return _MODELS.add(spec, replace=replace)


def registered_models() -> tuple[ModelSpec, ...]:
    """Return all registered models, the built-in ones first."""
    return _MODELS.all()


def model_names() -> tuple[str, ...]:
    """Return the names of all registered models."""
    return tuple(spec.name for spec in registered_models())


def get_model(name: str) -> ModelSpec:
    """Return a registered model.

    Raises:
        ModelError: if there is none of that name; the message has the nearest known one.
    """
    return _MODELS.get(name)
