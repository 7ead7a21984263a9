"""The registry: one frozen record per model; a registered model is a tested model."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from higgsbench.errors import MissingExtraError, ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["PRESETS", "BuildContext", "ModelSpec", "get_model", "model_names", "register_model", "registered_models"]

PRESETS = ("quick", "good", "best")
"""Names of the parameter presets, cheapest first."""

ENTRY_POINT_GROUP = "higgsbench.models"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class BuildContext:
    """What the harness tells a builder.

    Attributes:
        seed: seed of every random choice of the estimator.
        threads: number of threads the estimator may use.
        features: names of the columns of X, in order.
    """

    seed: int
    threads: int = 1
    features: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelSpec:
    """Everything higgsbench knows about a model.

    Attributes:
        name: name in configurations and tables; letters, digits, `_`, `.` and `-`.
        build: makes an unfitted scikit-learn-compatible classifier from parameters and a `BuildContext`. X is a
            float32 array with NaN where a value is missing.
        description: one line for `higgsbench models`.
        presets: parameters per preset; a preset that is not given falls back to the next cheaper one.
        sample_weight: whether `fit` takes sample_weight. Without it the model trains unweighted and its scores are
            recalibrated against evaluation weights.
        missing: whether the estimator takes NaN. Without it an imputation by the median with missing flags is put in
            front, fitted inside the fold.
        extra: extra of higgsbench that installs what the model needs, or None.
        requires: distributions whose versions determine the scores (part of a stored unit's identity).
        imports: modules that must be importable; checked before a run starts.
        log_odds: reads log-odds, shape (n,), off a fitted estimator; None takes `decision_function` where there is
            one and otherwise the logit of `predict_proba`.
        parameters: returns the known parameter names, to refuse misspelt ones; None accepts all.
        cost: rough fit time relative to LightGBM; long units are started first so that no core idles at the end.
    """

    name: str
    build: Callable[[Mapping[str, Any], BuildContext], Any]
    description: str = ""
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    sample_weight: bool = True
    missing: bool = False
    extra: str | None = None
    requires: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    log_odds: Callable[[Any, NDArray[Any]], NDArray[Any]] | None = None
    parameters: Callable[[], frozenset[str]] | None = None
    cost: float = 1.0

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ModelError(
                f"model name {self.name!r}: use letters, digits, '_', '.' and '-', beginning with a letter"
            )
        unknown = set(self.presets) - set(PRESETS)
        if unknown:
            raise ModelError(
                f"model {self.name}: unknown preset {sorted(unknown)[0]!r}; presets are {', '.join(PRESETS)}"
            )

    def __reduce__(self) -> tuple[Any, ...]:
        # A mapping proxy cannot be pickled; workers get plain copies.
        values = [getattr(self, name) for name in self.__dataclass_fields__]
        return (ModelSpec, tuple(dict(v) if isinstance(v, MappingProxyType) else v for v in values))

    def preset(self, name: str) -> dict[str, Any]:
        """Return the parameters of a preset; one that is not given falls back to the next cheaper, then dearer."""
        at = PRESETS.index(name)
        for candidate in (*reversed(PRESETS[: at + 1]), *PRESETS[at + 1 :]):
            if candidate in self.presets:
                return dict(self.presets[candidate])
        return {}

    def check_available(self) -> None:
        """Check that the optional dependencies are installed.

        Raises:
            MissingExtraError: naming the extra that brings the model.
            ModelError: if a module is missing that no extra of higgsbench brings.
        """
        for module in self.imports:
            try:
                found = importlib.util.find_spec(module) is not None
            except (ImportError, ValueError):  # of a submodule, the package itself may be missing
                found = False
            if not found:
                if self.extra is not None:
                    raise MissingExtraError(f"model {self.name!r}", self.extra)
                raise ModelError(f"model {self.name!r} needs the module {module}, which is not installed")

    def check_parameters(self, params: Mapping[str, Any]) -> None:
        """Refuse parameter names that the model does not know.

        Raises:
            ModelError: naming the parameter and the nearest known one.
        """
        if self.parameters is None:
            return
        import difflib

        known = self.parameters()
        for name in params:
            if name not in known:
                close = difflib.get_close_matches(name, sorted(known), n=1)
                hint = f" (did you mean {close[0]!r}?)" if close else f"; it knows {', '.join(sorted(known))}"
                raise ModelError(f"model {self.name!r} has no parameter {name!r}{hint}")


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

    try:
        for spec in (*BUILTIN, *_entry_points()):
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
