"""From a model's record and parameters to an unfitted estimator."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import functools
import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.errors import HiggsbenchError, ModelError
from higgsbench.models.scoring import fit_weighted
from higgsbench.models.spec import BAG, BuildContext

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from higgsbench.models.out_of_core import Training
    from higgsbench.models.spec import ModelSpec

__all__ = [
    "RefusedParameterError",
    "build_estimator",
    "cuda_devices",
    "estimator_from_disk",
    "log_odds_reader",
    "on_device",
    "probe",
    "probe_parameters",
    "unusable",
]


BAG_STRIDE = 1_000_000
"""Distance of the seeds in a bag; far more than the seeds of folds and repeats span."""


def build_estimator(spec: ModelSpec, params: Mapping[str, Any], context: BuildContext) -> Any:
    """Build a model's estimator, a bag of seeds where `bag` is more than 1.

    A model that takes no NaN gets a median imputation with missing flags in front, once for the whole bag.

    Raises:
        ModelError: if the builder refuses the parameters.
    """
    from sklearn.pipeline import make_pipeline

    own = dict(params)
    size = own.pop(BAG, 1)
    seeds = [context.seed + BAG_STRIDE * i for i in range(size)]
    # The imputation in front makes a table, which the members of a bag share.
    context = dataclasses.replace(context, own_table=size == 1 and not spec.missing)
    try:
        members = [spec.build(own, dataclasses.replace(context, seed=seed)) for seed in seeds]
    except (TypeError, ValueError) as error:
        raise ModelError(f"model {spec.name!r} cannot be built from {own}: {error}") from error
    estimator = members[0]
    if size > 1:
        from higgsbench.models.estimators import SeedBag

        estimator = SeedBag(members, log_odds=spec.log_odds)
    if spec.missing:
        return estimator
    from higgsbench.models.parts import FlaggedMedians

    return make_pipeline(FlaggedMedians(), estimator)


def estimator_from_disk(spec: ModelSpec, params: Mapping[str, Any], context: BuildContext, train: Training) -> Any:
    """Train what `build_estimator` would build on events that stay on disk, the members of a bag one after the other.

    Raises:
        ModelError: if the model cannot, or refuses the parameters.
    """
    own = dict(params)
    size = own.pop(BAG, 1)
    if spec.from_disk is None:
        raise ModelError(f"model {spec.name!r} cannot be trained from disk")
    seeds = [context.seed + BAG_STRIDE * i for i in range(size)]
    try:
        members = [spec.from_disk(spec.build, own, dataclasses.replace(context, seed=seed), train) for seed in seeds]
    except (TypeError, ValueError) as error:
        raise ModelError(f"model {spec.name!r} cannot be trained from disk with {own}: {error}") from error
    if size == 1:
        return members[0]
    from higgsbench.models.estimators import SeedBag

    bag = SeedBag(members, log_odds=spec.log_odds)
    bag.estimators_, bag.classes_ = members, np.array([0, 1])
    return bag


def log_odds_reader(spec: ModelSpec, params: Mapping[str, Any]) -> Callable[[Any, NDArray[Any]], NDArray[Any]] | None:
    """Return how to read log-odds off what `build_estimator` made: a bag reads its members' by itself."""
    return None if params.get(BAG, 1) > 1 else spec.log_odds


_EVENTS = 120
_ROUNDS = 2
_MOST_EVENTS = 200_000
_PLACES = ("device", "device_type", "task_type")
"""Parameters that choose the hardware; whether it is there is another question."""

_IN_SOURCE = re.compile(r" at /\S+, line \d+ ?\.?$")
_SOURCE_LINE = re.compile(r"^(\[[\d:. ]+\] )?\S+\.(cc|cpp|cu|h|hpp):\d+:? ?")


class RefusedParameterError(HiggsbenchError):
    """A library refuses a parameter.

    Attributes:
        parameter: which one, or None where only several together are at fault.
    """

    def __init__(self, message: str, parameter: str | None) -> None:
        super().__init__(message)
        self.parameter = parameter


def probe_parameters(
    spec: ModelSpec, params: Mapping[str, Any], given: Mapping[str, Any], features: tuple[str, ...], events: int
) -> None:
    """Train a model for two rounds on made-up events and let its library judge the parameters.

    Only models that come with higgsbench, and none that stop by the clock: what a fit of others costs nobody knows.

    Args:
        spec: the model.
        params: all its parameters.
        given: those that the user chose.
        features: names of the columns.
        events: number of training events; what fails with a few made-up events but not with so many is fine.

    Raises:
        RefusedParameterError: naming the parameter.
    """
    own = getattr(spec.build, "__module__", "").startswith("higgsbench.")
    if not given or not own or not spec.reproducible:
        return
    for name in spec.rounds:
        value = given.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise RefusedParameterError(
                f"{str(value)[:60]!r} is refused by {spec.name}: expected a whole number of at least 1", name
            )
    problem = _problem(spec, params, features, _EVENTS)
    if problem is None or (events > _EVENTS and _problem(spec, params, features, min(events, _MOST_EVENTS)) is None):
        return
    rounds = {name: _ROUNDS for name in spec.rounds if name in params}
    for name in given:
        without = {key: value for key, value in params.items() if key != name}
        if name not in rounds and _problem(spec, {**without, **rounds}, features, _EVENTS) is None:
            raise RefusedParameterError(f"{str(given[name])[:60]!r} is refused by {spec.name}: {problem}", name)
    without = {key: value for key, value in params.items() if key not in given}
    if _problem(spec, {**without, **rounds}, features, _EVENTS) is None:
        raise RefusedParameterError(f"these parameters together are refused by {spec.name}: {problem}", None)


def _problem(spec: ModelSpec, params: Mapping[str, Any], features: tuple[str, ...], events: int) -> str | None:
    """Return what a short fit complains of, None if nothing."""
    own = {name: value for name, value in params.items() if name not in (BAG, *_PLACES)}
    for name in spec.rounds:
        if isinstance(own.get(name), int):
            own[name] = min(own[name], _ROUNDS)
    rng = np.random.default_rng(1)
    y = np.arange(events) % 2
    X = (rng.normal(size=(events, len(features))) + 0.5 * y[:, None]).astype(np.float32)
    weight = rng.uniform(0.5, 1.5, events)
    try:
        with warnings.catch_warnings(), _quiet():
            warnings.simplefilter("ignore")
            estimator = build_estimator(spec, own, BuildContext(1, 1, features))
            fit_weighted(estimator, X, y, weight if spec.sample_weight else None)
    except Exception as error:  # each library has errors of its own
        return _reason(error)
    return None


def _reason(error: BaseException) -> str:
    """Return a library's complaint without the places in its source, in words of people."""
    if isinstance(error, ModelError) and error.__cause__ is not None:
        error = error.__cause__
    if type(error) is TypeError:  # scikit-learn's own kind of it has words for people
        return "a value of the wrong type"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = _IN_SOURCE.sub("", _SOURCE_LINE.sub("", lines[0])) if lines else ""
    return (text or type(error).__name__)[:200]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep libraries from writing what they also raise; LightGBM does so past Python's own streams."""
    saved = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as sink:
            os.dup2(sink.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


_PROBE_SECONDS = 120.0


def on_device(spec: ModelSpec, params: Mapping[str, Any], wanted: str | None) -> tuple[dict[str, Any], str]:
    """Settle a model's device before anything is trained, so that a unit's identity says where it was trained.

    Args:
        spec: the model.
        params: its parameters, perhaps with a device.
        wanted: device of the whole run, `cuda` or `cpu`; a model's own parameter comes first. None leaves it to that.

    Returns:
        The parameters, without a device where it is the processor that the model falls back to, and why it does; empty
        where it does not.
    """
    own = dict(params)
    given = [name for name in spec.devices if own.get(name) is not None]
    if not given:
        if wanted != "cuda":
            return own, ""
        if not spec.devices:
            return own, f"{spec.name}: knows no graphics card; trained on the processor"
        given = [spec.devices[0]]
        own[given[0]] = "cuda"
    values = {name: str(own[name]).lower() for name in given}
    if not any(value.split(":")[0] in ("cuda", "gpu", "auto") for value in values.values()):
        return own, ""
    automatic = "auto" in values.values()
    asked = {name: "cuda" if own[name] == "auto" else own[name] for name in given}
    reason = unusable(spec.name, json.dumps(asked, sort_keys=True))
    if not reason:
        return {**own, **asked}, ""
    for name in given:
        del own[name]
    return own, "" if automatic else f"{spec.name}: {reason}; trained on the processor"


@functools.cache
def unusable(model: str, settings: str) -> str:
    """Return why a built-in model cannot be trained with these settings of its device (JSON); empty where it can.

    A few events are fitted in a process of their own: what a driver leaves behind, prints or breaks stays there.
    """
    # OpenCL (LightGBM's `gpu`) needs no NVIDIA driver.
    if "cuda" in settings.lower() or model != "lightgbm":
        count = cuda_devices()
        if count == 0:
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
    lines = done.stdout.strip().splitlines()
    answer = lines[-1] if lines else f"reason: the trial fit ended with code {done.returncode}"
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
    """Fit a few events with the model and settings on the command line; print `usable`, or `reason: ` and why not."""
    import warnings

    import numpy as np

    from higgsbench.models.registry import get_model
    from higgsbench.models.spec import BuildContext

    spec, settings = get_model(sys.argv[1]), json.loads(sys.argv[2])
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 4)).astype(np.float32)
    y = (X[:, 0] + rng.normal(size=200) > 0.0).astype(np.int64)
    params = {**dict(spec.preset("quick").params), **dict.fromkeys(spec.rounds, 2), **settings}
    reason = ""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            spec.build(params, BuildContext(seed=0)).fit(X, y)
        except Exception as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if not reason:  # XGBoost warns, and trains on the processor
        said = [str(warning.message) for warning in caught]
        reason = "no usable CUDA device" if any("GPU" in text for text in said) else ""
    sys.stdout.write(f"\nreason: {reason[:200]}\n" if reason else "\nusable\n")
