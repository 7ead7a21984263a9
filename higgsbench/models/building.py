"""Build an unfitted estimator from a model's record and parameters, check its parameters, and choose its device."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import functools
import inspect
import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.errors import HiggsbenchError, ModelError, raised
from higgsbench.models.spec import BAG, BuildContext

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from higgsbench.models.spec import ModelSpec, Training

BAG_STRIDE = 1_000_000
"""Distance of the seeds in a bag; far more than the seeds of folds and repeats span."""

_EVENTS, _ROUNDS, _MOST_EVENTS, _PROBE_SECONDS = 120, 2, 200_000, 120.0

_IN_SOURCE = re.compile(r" at /\S+, line \d+ ?\.?$")
_SOURCE_LINE = re.compile(r"^(\[[\d:. ]+\] )?\S+\.(cc|cpp|cu|h|hpp):\d+:? ?")


def build_estimator(spec: ModelSpec, params: Mapping[str, Any], context: BuildContext) -> Any:
    """Build a model's estimator, a bag of seeds where `bag` is more than 1.

    For a model that does not accept NaN, a median imputation with missing flags comes first, once for the whole bag.

    Raises:
        ModelError: if the builder refuses the parameters.
    """
    # The imputation makes a table of its own, which the members of a bag share.
    context = dataclasses.replace(context, own_table=params.get(BAG, 1) == 1 and not spec.missing)
    estimator, *others = _members(spec, params, context, functools.partial(_built, spec), "built from")
    if others:
        from higgsbench.models.estimators import SeedBag

        estimator = SeedBag([estimator, *others], log_odds=spec.log_odds)
    if spec.missing:
        return estimator
    from sklearn.pipeline import make_pipeline

    from higgsbench.models.parts import FlaggedMedians

    return make_pipeline(FlaggedMedians(context.categories), estimator)


def _built(spec: ModelSpec, params: Mapping[str, Any], context: BuildContext) -> Any:
    """Call the builder; tell a library that supports categories which columns are categorical."""
    estimator = spec.build(params, context)
    _check_classifier(spec, estimator)
    if not context.categories or spec.with_categories is None:
        return estimator
    from higgsbench.models.estimators import EarlyStopping

    if not isinstance(estimator, EarlyStopping):
        return spec.with_categories(estimator, len(context.categories))
    estimator.estimator = spec.with_categories(estimator.estimator, len(context.categories))
    return estimator


def _check_classifier(spec: ModelSpec, estimator: Any) -> None:
    """Refuse an estimator that cannot be trained as the model's record says, or that gives no scores."""
    if isinstance(estimator, type) or not all(hasattr(estimator, name) for name in ("fit", "get_params")):
        found = f"the class {estimator.__name__}" if isinstance(estimator, type) else f"a {type(estimator).__name__}"
        raise ModelError(
            f"model {spec.name!r}: its builder returned {'nothing' if estimator is None else found}, expected an "
            "unfitted classifier with scikit-learn's methods fit and get_params"
        )
    last = estimator
    while hasattr(last, "steps"):  # a Pipeline
        last = last.steps[-1][1]
    name = type(last).__name__
    if spec.log_odds is None and not any(hasattr(estimator, how) for how in ("decision_function", "predict_proba")):
        raise ModelError(
            f"model {spec.name!r}: {name} has neither predict_proba nor decision_function, so it gives no scores; "
            "wrap it in CalibratedClassifierCV, or give ModelSpec(log_odds=...)"
        )
    arguments = inspect.signature(last.fit).parameters.values()
    if spec.sample_weight and not any(a.name == "sample_weight" or a.kind is a.VAR_KEYWORD for a in arguments):
        raise ModelError(
            f"model {spec.name!r}: {name}.fit takes no sample_weight; give ModelSpec(sample_weight=False) to train it "
            "without weights and calibrate its scores afterwards"
        )


def estimator_from_disk(spec: ModelSpec, params: Mapping[str, Any], context: BuildContext, train: Training) -> Any:
    """Train what `build_estimator` would build on events that stay on disk, the members of a bag one after the other.

    Raises:
        ModelError: if the model cannot train from disk or refuses the parameters.
    """
    from higgsbench.models.estimators import SeedBag

    fit = spec.from_disk
    if fit is None:
        raise ModelError(f"model {spec.name!r} cannot be trained from disk")
    how = "trained from disk with"
    members = _members(spec, params, context, lambda own, seeded: fit(spec.build, own, seeded, train), how)
    return SeedBag.of_fitted(members, spec.log_odds) if len(members) > 1 else members[0]


def _members(
    spec: ModelSpec, params: Mapping[str, Any], context: BuildContext, make: Callable[..., Any], how: str
) -> list[Any]:
    """Make one estimator per seed of the bag."""
    own = spec.canonical(params)
    size = own.pop(BAG, 1)
    seeds = [context.seed + BAG_STRIDE * member for member in range(size)]
    try:
        return [make(own, dataclasses.replace(context, seed=seed)) for seed in seeds]
    except (TypeError, ValueError) as error:
        raise ModelError(f"model {spec.name!r} cannot be {how} {own}: {error}") from error


def log_odds_reader(spec: ModelSpec, params: Mapping[str, Any]) -> Callable[[Any, NDArray[Any]], NDArray[Any]] | None:
    """Return the function that gets log-odds from a built estimator, or None for a bag, which reads its own members."""
    return None if params.get(BAG, 1) > 1 else spec.log_odds


class RefusedParameterError(HiggsbenchError):
    """A library refuses the value of `parameter`, or, if that is None, a combination of several parameters."""

    def __init__(self, message: str, parameter: str | None) -> None:
        super().__init__(message)
        self.parameter = parameter


def probe_parameters(
    spec: ModelSpec, params: Mapping[str, Any], given: Mapping[str, Any], features: tuple[str, ...], events: int
) -> None:
    """Train a model for two rounds on a handful of made-up events to let its library check the parameters.

    Most libraries check parameters only when they train, so that a bad number would be found minutes into a run, once
    per fold. Only built-in models without a time limit are tried, because the cost of other fits is unknown; a user's
    model is built.

    Args:
        spec: the model.
        params: all its parameters.
        given: those that the user chose.
        features: names of the columns.
        events: number of training events; parameters may fail on a few made-up events if they work on this many.

    Raises:
        RefusedParameterError: naming the parameter.
        ModelError: if a user's model cannot be built, trained with weights, or asked for scores.
    """
    if not _comes_with_higgsbench(spec):
        try:
            build_estimator(spec, params, BuildContext(1, 1, features, events=events))
        except HiggsbenchError:
            raise
        except Exception as error:
            raise ModelError(f"model {spec.name!r}: its builder raised {raised(error)}") from error
        return
    if not given or not spec.reproducible:
        return
    params = {name: value for name, value in params.items() if name not in spec.devices}
    names = {spec.aliases.get(name, name): name for name in given}
    for name in spec.rounds:
        value = given.get(names.get(name, name))
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            text = f"{spec.name} refuses {str(value)[:60]!r}: expected a whole number of at least 1"
            raise RefusedParameterError(text, names[name])
    problem = _problem(spec, params, features, _EVENTS)
    if problem is None or (events > _EVENTS and _problem(spec, params, features, min(events, _MOST_EVENTS)) is None):
        return
    rounds = {name: _ROUNDS for name in spec.rounds if name in params}
    for name, as_given in names.items():
        without = {key: value for key, value in params.items() if key != name}
        if name not in rounds and _problem(spec, {**without, **rounds}, features, _EVENTS) is None:
            text = f"{spec.name} refuses {str(given[as_given])[:60]!r}: {problem}"
            raise RefusedParameterError(text, as_given)
    without = {key: value for key, value in params.items() if key not in names}
    if _problem(spec, {**without, **rounds}, features, _EVENTS) is None:
        raise RefusedParameterError(f"{spec.name} refuses this combination of parameters: {problem}", None)


def _comes_with_higgsbench(spec: ModelSpec) -> bool:
    return (getattr(spec.build, "__module__", None) or "").startswith("higgsbench.")


def unstorable(spec: ModelSpec, params: Mapping[str, Any], features: tuple[str, ...]) -> str:
    """Say why a run could not store fitted models; empty if it can, or if only a fit of a run shows it.

    The unfitted estimator shows whether its types are trusted. One whose parts all come from scikit-learn is also
    trained on a handful of made-up events, because some of them hold other types after a fit.
    """
    from higgsbench.models import storage_codecs
    from higgsbench.models.storage import ModelWriter, UnstorableError

    if _comes_with_higgsbench(spec) and spec.codecs:
        return ""
    own, writer = spec.canonical(params), ModelWriter(storage_codecs(spec))
    own.pop(BAG, None)
    try:
        estimator = spec.build(own, BuildContext(1, 1, features))
        writer.node(estimator)
        parts = [part for part in (estimator, *estimator.get_params().values()) if hasattr(part, "get_params")]
        if all(type(part).__module__.startswith("sklearn.") for part in parts):
            with warnings.catch_warnings(), _quiet():
                warnings.simplefilter("ignore")
                writer.node(_tried(spec, own, features, _EVENTS))
    except UnstorableError as error:
        return str(error)
    except Exception:  # some libraries store fitted models only, and some models need more events or other columns
        return ""
    return ""


def _tried(spec: ModelSpec, params: Mapping[str, Any], features: tuple[str, ...], events: int) -> Any:
    """Train a model on made-up events, after a clone as in a run, because some parameters fail only then."""
    from sklearn.base import clone

    from higgsbench.models.estimators import fit_weighted

    rng = np.random.default_rng(1)
    y = np.arange(events) % 2
    X = (rng.normal(size=(events, len(features))) + 0.5 * y[:, None]).astype(np.float32)
    weight = rng.uniform(0.5, 1.5, events)
    estimator = clone(build_estimator(spec, params, BuildContext(1, 1, features)))
    return fit_weighted(estimator, X, y, weight if spec.sample_weight else None)


def _problem(spec: ModelSpec, params: Mapping[str, Any], features: tuple[str, ...], events: int) -> str | None:
    """Return the error of a short fit, or None if it succeeds."""
    own = {name: value for name, value in params.items() if name != BAG}
    own |= {name: min(own[name], _ROUNDS) for name in spec.rounds if isinstance(own.get(name), int)}
    try:
        with warnings.catch_warnings(record=True) as caught, _quiet():
            warnings.simplefilter("always")
            _tried(spec, own, features, events)
    except Exception as error:  # each library has its own errors
        cause = error.__cause__ if isinstance(error, ModelError) and error.__cause__ is not None else error
        if type(cause) is TypeError:  # scikit-learn's own subclass says more
            return "a value of the wrong type"
        line = next((line.strip() for line in str(cause).splitlines() if line.strip()), "")
        return (_IN_SOURCE.sub("", _SOURCE_LINE.sub("", line)) or type(cause).__name__)[:200]
    # XGBoost warns, and trains on the processor.
    fell_back = own.keys() & {*spec.devices} and any("GPU" in str(warning.message) for warning in caught)
    return "no usable CUDA device" if fell_back else None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep libraries from printing what they also raise; LightGBM bypasses Python's own streams."""
    saved = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as sink:
            os.dup2(sink.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def on_device(spec: ModelSpec, params: Mapping[str, Any], wanted: str | None) -> tuple[dict[str, Any], str]:
    """Settle a model's device before training begins, so that a unit's identity says where it was trained.

    Args:
        spec: the model.
        params: its parameters, perhaps with a device.
        wanted: device of the whole run, `cuda` or `cpu`, or None; a model's own parameter comes first.

    Returns:
        The parameters, without a device where the model falls back to the processor, and the reason if it does.
    """
    own = dict(params)
    given = {name: own[name] for name in spec.devices if own.get(name) is not None}
    if not given and wanted == "cuda":
        if not spec.devices:
            return own, f"{spec.name}: runs on the processor only; trained there"
        given = {spec.devices[0]: "cuda"}
    values = {str(value).lower() for value in given.values()}
    if not any(value.split(":")[0] in ("cuda", "gpu", "auto") for value in values):
        return own, ""
    asked = {name: "cuda" if value == "auto" else value for name, value in given.items()}
    reason = unusable(spec.name, json.dumps(asked, sort_keys=True), not values & set(spec.other_devices))
    if not reason:
        return {**own, **asked}, ""
    kept = {name: value for name, value in own.items() if name not in given}
    return kept, "" if "auto" in values else f"{spec.name}: {reason}; trained on the processor"


@functools.cache
def unusable(model: str, settings: str, needs_driver: bool = True) -> str:
    """Return why a built-in model cannot be trained with these settings of its device (JSON); empty if it can.

    A separate process fits a few events, so that nothing a driver leaves behind, prints or breaks matters here.
    """
    if needs_driver and cuda_devices() == 0:
        return "no usable CUDA device"
    try:
        done = subprocess.run(
            [sys.executable, "-c", f"from {__name__} import probe; probe()", model, settings],
            capture_output=True,
            text=True,
            timeout=_PROBE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"a trial fit failed: {type(error).__name__}"
    *_, answer = done.stdout.strip().splitlines() or [f"reason: the trial fit ended with code {done.returncode}"]
    return answer.removeprefix("reason: ") if answer.startswith("reason: ") else ""


def cuda_devices() -> int:
    """Number of CUDA devices that the driver offers; 0 without a driver."""
    for library in ("libcuda.so.1", "nvcuda.dll"):
        try:
            driver = ctypes.CDLL(library)
        except OSError:
            continue
        count = ctypes.c_int(0)
        if driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0:
            return count.value
    return 0


def probe() -> None:
    """Fit a few events with the model and settings on the command line; print `usable` or the reason."""
    from higgsbench.models import get_model

    spec = get_model(sys.argv[1])
    reason = _problem(spec, {**spec.preset("quick").params, **json.loads(sys.argv[2])}, ("a", "b", "c", "d"), _EVENTS)
    sys.stdout.write(f"\nreason: {reason}\n" if reason else "\nusable\n")
