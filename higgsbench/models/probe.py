"""Does a library take a model's parameters? A fit of a few rounds on a handful of made-up events tells at once.

Every library judges parameters in its own way and most only when it trains, so that a misspelt number would be found
minutes into a run, once per fold.
"""

from __future__ import annotations

import contextlib
import os
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from higgsbench.errors import HiggsbenchError, ModelError
from higgsbench.models.building import build_estimator
from higgsbench.models.scoring import fit_weighted
from higgsbench.models.spec import BAG, BuildContext

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from higgsbench.models.spec import ModelSpec

__all__ = ["RefusedParameterError", "probe_parameters"]

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
