"""The registry: one frozen record per model; a registered model is a tested model."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING

from higgsbench.errors import ModelError
from higgsbench.models.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["get_model", "model_names", "register_model", "registered_models"]

ENTRY_POINT_GROUP = "higgsbench.models"

_REGISTRY: dict[str, ModelSpec] = {}
_loaded = False


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
    if not isinstance(spec, ModelSpec):
        raise ModelError(f"register_model takes a higgsbench.ModelSpec, got a {type(spec).__name__}")
    _load()
    if spec.name in _REGISTRY and not replace:
        raise ModelError(f"a model named {spec.name!r} is already registered; pass replace=True to replace it")
    _REGISTRY[spec.name] = spec
    return spec


def _entry_points() -> Iterator[ModelSpec]:
    for entry in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        origin = f"entry point {entry.name!r} of {entry.dist.name if entry.dist else 'an unknown package'}"
        try:
            loaded = entry.load()
        except Exception as error:
            raise ModelError(f"{origin} cannot be loaded: {type(error).__name__}: {error}") from error
        if not isinstance(loaded, ModelSpec):
            raise ModelError(f"{origin} is a {type(loaded).__name__}, expected a higgsbench.ModelSpec")
        yield loaded


def _load() -> None:
    """Fill the registry once: the built-in models, then those of installed packages."""
    global _loaded
    if _loaded:
        return
    _loaded = True
    from higgsbench.models.builtin import BUILTIN
    from higgsbench.models.peers import PEERS

    try:
        for spec in (*BUILTIN, *PEERS, *_entry_points()):
            if spec.name in _REGISTRY:
                raise ModelError(f"two models are named {spec.name!r}; rename the one that an installed package brings")
            _REGISTRY[spec.name] = spec
    except BaseException:
        _REGISTRY.clear()
        _loaded = False
        raise


def registered_models() -> tuple[ModelSpec, ...]:
    """Return all registered models, the built-in ones first."""
    _load()
    return tuple(_REGISTRY.values())


def model_names() -> tuple[str, ...]:
    """Return the names of all registered models."""
    return tuple(spec.name for spec in registered_models())


def get_model(name: str) -> ModelSpec:
    """Return a registered model.

    Raises:
        ModelError: if there is none of that name; the message has the nearest known one.
    """
    _load()
    if name not in _REGISTRY:
        import difflib

        close = difflib.get_close_matches(name, list(_REGISTRY), n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else f"; registered are {', '.join(_REGISTRY)}"
        raise ModelError(f"no model named {name!r}{hint}")
    return _REGISTRY[name]
