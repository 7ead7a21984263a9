"""What higgsbench knows about a model: one frozen record."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from higgsbench.errors import MissingExtraError, ModelError, nearest_hint

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from higgsbench.models.out_of_core import Training
    from higgsbench.models.space import SearchSpace
    from higgsbench.models.storage import Codec

__all__ = ["BAG", "EARLY", "PRESETS", "BuildContext", "ModelSpec", "Preset"]

PRESETS = ("quick", "good", "best")
"""Names of the parameter presets, cheapest first."""

BAG = "bag"
"""Parameter that every model takes: how many copies with different seeds are trained, whose log-odds are averaged."""

EARLY = ("early_stopping_rounds", "validation_fraction")
"""Parameters of boosted trees that stop early, see `higgsbench.models.estimators`."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class BuildContext:
    """What the harness tells a builder.

    Attributes:
        seed: seed of every random choice of the estimator.
        threads: number of threads the estimator may use.
        features: names of the columns of X, in order.
        split: whether submodels per jet number are fitted, each on those of the columns that carry something in its
            group.
        events: number of training events, of all groups together; None where it is not known.
        own_table: whether the table that the estimator sees, in `fit` and for predictions, is made for it alone and
            may be worked on in place.
    """

    seed: int
    threads: int = 1
    features: tuple[str, ...] = ()
    split: bool = False
    events: int | None = None
    own_table: bool = False


@dataclass(frozen=True)
class Preset:
    """How a model is used at one level of effort.

    Attributes:
        params: parameters; `bag` averages the log-odds of so many seeds, for any model.
        training_weights: scheme, or None for the harness's default.
        features: feature set, or None for the harness's default.
    """

    params: Mapping[str, Any] = field(default_factory=dict)
    training_weights: str | None = None
    features: str | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return (Preset, (dict(self.params), self.training_weights, self.features))


@dataclass(frozen=True)
class ModelSpec:
    """Everything higgsbench knows about a model.

    Attributes:
        name: name in configurations and tables; letters, digits, `_`, `.` and `-`.
        build: makes an unfitted scikit-learn-compatible classifier from parameters and a `BuildContext`. X is a
            float32 array with NaN where a value is missing.
        description: one line for `higgsbench models`.
        presets: a `Preset`, or merely its parameters, per preset name; one that is not given falls back to the next
            cheaper one.
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
        codecs: storage formats of its fitted estimators, beside the built-in ones (the boosting libraries' own,
            scikit-learn's plain estimators, pipelines of these). Where no format fits, a run keeps the scores only.
        reproducible: whether the same seed gives the same scores bit for bit; a model that stops by the clock does not.
        cost: rough fit time relative to LightGBM; long units are started first so that no core idles at the end.
        search_space: what `higgsbench tune` may vary; empty where nothing is known to be worth it.
        rounds: parameters that the fit time is proportional to (trees, epochs), beside a fixed part.
        merit: rough worth of the model's row, 1 for gradient boosting; what is worth least per second is left out first
            when a time limit is short.
        from_disk: trains from a matrix on disk, with the builder, parameters, context and events (`out_of_core`); None
            where the library must have all events in memory.
        memory: peak memory of a fit in multiples of the float32 matrix of its training events, that matrix counted; or
            a function that returns it for parameters, events and columns.
        devices: parameters that tell the model its device (`cuda`), the one that a run's `device` sets first; none
            where it knows the processor only.
    """

    name: str
    build: Callable[[Mapping[str, Any], BuildContext], Any]
    description: str = ""
    presets: Mapping[str, Preset | Mapping[str, Any]] = field(default_factory=dict)
    sample_weight: bool = True
    missing: bool = False
    extra: str | None = None
    requires: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    log_odds: Callable[[Any, NDArray[Any]], NDArray[Any]] | None = None
    parameters: Callable[[], frozenset[str]] | None = None
    codecs: tuple[Codec, ...] = ()
    reproducible: bool = True
    cost: float = 1.0
    search_space: SearchSpace = field(default_factory=dict)
    rounds: tuple[str, ...] = ()
    merit: float = 1.0
    from_disk: Callable[[Any, Mapping[str, Any], BuildContext, Training], Any] | None = None
    memory: float | Callable[[Mapping[str, Any], int, int], float] = 6.0
    devices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        name, build = (getattr(self, key) for key in ("name", "build"))  # of any type, for annotations hold nobody back
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ModelError(
                f"model name {self.name!r}: use letters, digits, '_', '.' and '-', beginning with a letter"
            )
        if not callable(build):
            raise ModelError(f"model {self.name}: build must be a function of parameters and a BuildContext")
        unknown = set(self.presets) - set(PRESETS)
        if unknown:
            raise ModelError(
                f"model {self.name}: unknown preset {sorted(unknown)[0]!r}; presets are {', '.join(PRESETS)}"
            )

    def __reduce__(self) -> tuple[Any, ...]:
        # A mapping proxy cannot be pickled; workers get plain copies.
        values = [getattr(self, name) for name in self.__dataclass_fields__]
        return (ModelSpec, tuple(dict(v) if isinstance(v, MappingProxyType) else v for v in values))

    def preset(self, name: str) -> Preset:
        """Return a preset; one that is not given falls back to the next cheaper, then dearer."""
        at = PRESETS.index(name)
        for candidate in (*reversed(PRESETS[: at + 1]), *PRESETS[at + 1 :]):
            if candidate in self.presets:
                found = self.presets[candidate]
                return found if isinstance(found, Preset) else Preset(found)
        return Preset()

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
        """Refuse parameter names that the model does not know, and a bag that is not a whole number of members.

        Raises:
            ModelError: naming the parameter and the nearest known one.
        """
        size = params.get(BAG, 1)
        if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= 1000:
            raise ModelError(f"model {self.name!r}: {BAG} is {size!r}, expected a whole number from 1 to 1000")
        if self.parameters is None or not params.keys() - {BAG}:
            return
        known = self.parameters() | {BAG}
        for name in params:
            if name not in known:
                hint = nearest_hint(name, sorted(known), f"; it knows {', '.join(sorted(known))}")
                raise ModelError(f"model {self.name!r} has no parameter {name!r}{hint}")
