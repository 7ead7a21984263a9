"""The record that describes a model (`ModelSpec`) and the context passed to its builder (`BuildContext`)."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import inspect
import mmap
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.errors import MissingExtraError, ModelError, nearest_hint

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from higgsbench.models.storage import Codec

PRESETS = ("quick", "good", "best")
"""Names of the parameter presets, cheapest first."""

BAG = "bag"
"""Parameter of every model: the number of copies with different seeds whose log-odds are averaged."""

EARLY = ("early_stopping_rounds", "validation_fraction")
"""Parameters of boosted trees that stop early, see `higgsbench.models.estimators.EarlyStopping`."""

BLOCK = 1 << 17
"""Rows of a matrix on disk that are in memory at a time."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*|[\w +-]+\.py:[A-Za-z]\w*")
"""Names of models: registered ones, and those in a file (`higgsbench.models`)."""


@dataclass(frozen=True)
class BuildContext:
    """Information for a builder.

    Attributes:
        seed: seed of every random choice of the estimator.
        threads: number of threads the estimator may use.
        features: names of the columns of X, in order.
        split: whether submodels per jet number are fitted, each on the columns that carry information in its group.
        events: number of training events in all groups; None if unknown.
        categories: number of values of each of the first columns of X. These are categorical: they have the position
            of the value, or NaN if it is missing or does not occur in training. The other columns are numbers.
        own_table: whether the estimator alone uses its table, in `fit` and for predictions, and may overwrite it.
        decorrelation: strength of the penalty on a score that depends on a spectator; 0 for no penalty.

    Example:
        >>> from sklearn.ensemble import ExtraTreesClassifier
        >>> def build(params, context):
        ...     return ExtraTreesClassifier(**params, random_state=context.seed, n_jobs=context.threads)
    """

    seed: int
    threads: int = 1
    features: tuple[str, ...] = ()
    split: bool = False
    events: int | None = None
    own_table: bool = False
    categories: tuple[int, ...] = ()
    decorrelation: float = 0.0


@dataclass(frozen=True)
class RowsOnDisk:
    """Some rows (k,), ascending, and columns (q,), None for all, of a float32 matrix X (n, p) mapped from a file."""

    X: NDArray[np.float32]
    rows: NDArray[np.int64]
    columns: NDArray[np.intp] | None = None

    def __len__(self) -> int:
        return self.rows.size

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.X.shape[1] if self.columns is None else self.columns.size

    def values(self) -> NDArray[np.float32]:
        """Return all rows in memory, shape (k, q); without a copy where these are all of a matrix."""
        if self.columns is not None:
            return self.X[np.ix_(self.rows, self.columns)]
        return self.X if len(self) == len(self.X) else self.X[self.rows]

    def blocks(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Yield all rows in blocks of at most `BLOCK`, with their positions among these."""
        for first in range(0, len(self), BLOCK):
            at = slice(first, min(first + BLOCK, len(self)))
            part = np.asarray(self.X[self.rows[at]])
            yield at, part if self.columns is None else part[:, self.columns]
            release(self.X)

    def chosen(self, index: NDArray[np.int64]) -> RowsOnDisk:
        """Return some of the rows, by their ascending positions among these."""
        return RowsOnDisk(self.X, self.rows[index], self.columns)


def release(array: NDArray[Any]) -> None:
    """Give the pages of an array mapped from a file back to the system, which keeps them in its cache."""
    mapped = getattr(array, "_mmap", None)
    if mapped is not None and hasattr(mapped, "madvise"):
        mapped.madvise(mmap.MADV_DONTNEED)


@dataclass(frozen=True)
class Training:
    """Events to train on that stay on disk: features (n, p), truth (n,), training weights (n,) and spectator (n,)."""

    data: RowsOnDisk
    y: NDArray[np.bool_]
    weight: NDArray[np.float64]
    spectator: NDArray[np.float32] | None = None

    def chosen(self, index: NDArray[np.int64]) -> Training:
        """Return some of the events, by their ascending positions."""
        spectator = None if self.spectator is None else self.spectator[index]
        return Training(self.data.chosen(index), self.y[index], self.weight[index], spectator)


@dataclass(frozen=True)
class Preset:
    """How a model is used at one level of effort.

    Attributes:
        params: parameters; `bag` averages the log-odds of that many seeds, for any model.
        training_weights: scheme, or None for the harness's default.
        features: feature set, or None for the harness's default.
    """

    params: Mapping[str, Any] = field(default_factory=dict)
    training_weights: str | None = None
    features: str | None = None


def _copied(estimator: Any, params: Mapping[str, Any], context: BuildContext) -> Any:
    """Build a copy of a classifier with parameters, and with the run's seed and threads wherever it takes them."""
    from sklearn.base import clone

    new = clone(estimator)
    of_run = {"random_state": context.seed, "n_jobs": context.threads}
    own = {name: of_run[last] for name in new.get_params() if (last := name.rpartition("__")[2]) in of_run}
    return new.set_params(**own | dict(params))


def _definition(estimator: Any) -> str:
    """Return what identifies a classifier: its parameters, and the source of its classes outside scikit-learn."""
    params = estimator.get_params()
    sources = {}
    for part in (estimator, *params.values()):
        kind = type(part)
        if hasattr(part, "get_params") and not kind.__module__.startswith("sklearn."):
            with contextlib.suppress(OSError, TypeError):  # there is no source
                sources[kind.__qualname__] = inspect.getsource(kind)
    text = repr((type(estimator).__qualname__, sorted(params.items()), sorted(sources.items())))
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class ModelSpec:
    """Everything higgsbench knows about a model.

    Attributes:
        name: name in configurations and tables; letters, digits, `_`, `.` and `-`.
        build: makes an unfitted scikit-learn-compatible classifier from parameters and a `BuildContext`; or the
            classifier itself or its class, which is copied and gets the parameters, seed and threads. X is a float32
            array with NaN where a value is missing.
        description: one line for `higgsbench models`.
        presets: a `Preset`, or only its parameters, per preset name; a missing one falls back to the next cheaper one.
        sample_weight: whether `fit` takes sample_weight. Without it the model trains unweighted and its scores are
            recalibrated against evaluation weights.
        missing: whether the estimator takes NaN. Without it an imputation by the median with missing flags comes
            first, fitted inside the fold, and categories become columns of 0 and 1.
        extra: extra of higgsbench that installs what the model needs, or None.
        requires: distributions whose versions determine the scores (part of a stored unit's identity).
        imports: modules that must be importable; checked before a run starts.
        log_odds: reads log-odds, shape (n,), off a fitted estimator; None takes `decision_function` where there is
            one and otherwise the logit of `predict_proba`.
        parameters: returns the known parameter names, to refuse misspelt ones; None accepts all.
        aliases: other names of parameters and the name that each stands for, so that a user's `eta` replaces a
            preset's `learning_rate`.
        harness: parameters that the run itself sets (seed, threads); a configuration may not.
        codecs: storage formats of its fitted estimators, besides skops and the formats of the built-in models. Where no
            format fits, a run keeps the scores only and says so before it trains.
        trusted: types, as classes or by their names (`package.module.Class`), that skops may make when it reads a
            stored model, besides those of numpy and scikit-learn.
        reproducible: whether the same seed gives the same scores bit for bit; a model that stops by the clock does not.
        cost: rough fit time relative to LightGBM; long units start first so that no core idles at the end.
        search_space: returns what `higgsbench tune` may vary, Optuna's distributions by parameter, so that Optuna is
            imported only then; lists among the choices are JSON text. None if no parameter is worth tuning.
        defaults: the library's own values of these parameters, at which a study starts if no preset sets them.
        rounds: parameters that the fit time is proportional to (trees, epochs), besides a fixed part.
        merit: rough worth of the model's row, 1 for gradient boosting; the row worth least per second is left out
            first when a time limit is short.
        from_disk: trains from a matrix on disk, given the builder, parameters, context and events; None where the
            library needs all events in memory.
        disk_bytes: peak memory of `from_disk` in bytes per value of the matrix.
        memory: peak memory of a fit in multiples of the float32 matrix of its training events, matrix included; or a
            function that returns it for parameters, events and columns.
        devices: parameters that choose the device (`cuda`), first the one that a run's `device` sets; empty where the
            model runs on the processor only.
        other_devices: values of these that need no CUDA driver (LightGBM's OpenCL).
        with_categories: given a built estimator and a number of columns, returns one that treats the first columns of X
            as categories in the library's own way; None if it treats their positions as numbers (or, without `missing`,
            gets one column of 0 and 1 per value).
        contributions: splits the log-odds of a fitted estimator into what each feature adds (TreeSHAP), shape
            (n, p + 1) with the remainder last; None where the library cannot.
        pretraining: parameters on simulated events (the key `pretrain` of a configuration), and those with which `fit`
            continues on the run's events, in place of the preset's; None if it cannot continue.
        files: returns the digest of the files that parameters name, which is part of a unit's identity, or raises a
            `ModelError`, before a run trains anything, that says how to get a missing file.
        decorrelates: whether `fit` takes a `spectator` (n,) and penalises a score that depends on it in background,
            with the strength `BuildContext.decorrelation` (the key `decorrelate` of a configuration).
        code: identity of code beyond the builder's own that determines the scores; part of a stored unit's identity.

    Example:
        >>> from sklearn.naive_bayes import GaussianNB
        >>> spec = higgsbench.ModelSpec("naive_bayes", GaussianNB())
        >>> higgsbench.register_model(spec).name
        'naive_bayes'
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
    trusted: Sequence[str | type] = ()
    reproducible: bool = True
    cost: float = 1.0
    search_space: Callable[[], Mapping[str, Any]] | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    rounds: tuple[str, ...] = ()
    merit: float = 1.0
    from_disk: Callable[[Any, Mapping[str, Any], BuildContext, Training], Any] | None = None
    memory: float | Callable[[Mapping[str, Any], int, int], float] = 6.0
    devices: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    harness: tuple[str, ...] = ()
    disk_bytes: float = 4.0
    other_devices: tuple[str, ...] = ()
    contributions: Callable[[Any, NDArray[Any]], NDArray[Any]] | None = None
    with_categories: Callable[[Any, int], Any] | None = None
    code: str = ""
    files: Callable[[Mapping[str, Any]], str] | None = None
    pretraining: tuple[Mapping[str, Any], Mapping[str, Any]] | None = None
    decorrelates: bool = False

    def __post_init__(self) -> None:
        name, build = (getattr(self, key) for key in ("name", "build"))  # type annotations are not enforced
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ModelError(f"model name {name!r}: use letters, digits, '_', '.' and '-', beginning with a letter")
        if hasattr(build, "get_params"):
            try:
                made = build() if isinstance(build, type) else build
            except TypeError as error:
                raise ModelError(f"model {name}: {build.__name__} needs arguments: {error}") from error
            object.__setattr__(self, "build", functools.partial(_copied, made))
            object.__setattr__(self, "code", self.code + _definition(made))
        elif not callable(build):
            raise ModelError(
                f"model {name}: build must be a function of parameters and a BuildContext, or a classifier"
            )
        if isinstance(self.trusted, str) or not all(isinstance(known, (str, type)) for known in self.trusted):
            raise ModelError(f"model {name}: trusted must be a list of classes or their names, e.g. ['my.package.Net']")
        names = (t if isinstance(t, str) else f"{t.__module__}.{t.__name__}" for t in self.trusted)
        object.__setattr__(self, "trusted", tuple(names))
        for preset in self.presets:
            if preset not in PRESETS:
                raise ModelError(f"model {name}: unknown preset {preset!r}; presets are {', '.join(PRESETS)}")

    def preset(self, name: str) -> Preset:
        """Return a preset; a missing one falls back to the next cheaper one, then to the next more expensive one."""
        at = PRESETS.index(name)
        order = (*reversed(PRESETS[: at + 1]), *PRESETS[at + 1 :])
        found = next((self.presets[candidate] for candidate in order if candidate in self.presets), Preset())
        return found if isinstance(found, Preset) else Preset(found)

    def check_available(self) -> None:
        """Check that the optional dependencies are installed.

        Raises:
            ModelError: naming the missing module, or as `MissingExtraError` the extra that installs it.
        """
        for module in self.imports:
            try:
                found = importlib.util.find_spec(module)
            except (ImportError, ValueError):  # for a submodule, the package itself may be missing
                found = None
            if found is None and self.extra is not None:
                raise MissingExtraError(f"model {self.name!r}", self.extra)
            if found is None:
                raise ModelError(f"model {self.name!r} needs the module {module}, which is not installed")

    def canonical(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return parameters under the names that the presets use.

        Raises:
            ModelError: if two names of one parameter are given.
        """
        given: dict[str, str] = {}
        for name in params:
            other = given.setdefault(self.aliases.get(name, name), name)
            if other != name:
                raise ModelError(f"model {self.name!r}: {other!r} and {name!r} are the same parameter; give one")
        return {target: params[name] for target, name in given.items()}

    def check_parameters(self, params: Mapping[str, Any]) -> None:
        """Refuse parameters that are unknown or set by the run, and a bag size that is not a whole number.

        Raises:
            ModelError: naming the parameter and the nearest known one.
        """
        size = params.get(BAG, 1)
        if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= 1000:
            raise ModelError(f"model {self.name!r}: {BAG} is {size!r}, expected a whole number from 1 to 1000")
        for name, target in zip(params, self.canonical(params), strict=True):
            if target in self.harness:
                how = "use the keys `seed` and `threads` of the run"
                raise ModelError(f"model {self.name!r}: the run sets {name!r} itself; {how}")
        if self.parameters is None or not params.keys() - {BAG}:
            return
        own = sorted((self.parameters() | {BAG}) - frozenset(self.harness))
        for name in params:
            if name not in own and name not in self.aliases:
                hint = nearest_hint(name, own, f"; it knows {', '.join(own)}")
                raise ModelError(f"model {self.name!r} has no parameter {name!r}{hint}")
