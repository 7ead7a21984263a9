"""Search spaces as plain data: what a study may vary, readable and checkable without Optuna."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from higgsbench.errors import ModelError

__all__ = ["Choice", "Dimension", "Float", "Int", "SearchSpace", "Trial", "sample", "to_trial"]


class Trial(Protocol):
    """What a space is sampled by; an Optuna trial is one."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Suggest a whole number from low to high, both included."""
        ...

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Suggest a number from low to high."""
        ...

    def suggest_categorical(self, name: str, choices: list[str]) -> Any:
        """Suggest one of the choices."""
        ...


@dataclass(frozen=True)
class Int:
    """A whole number.

    Attributes:
        low: least value.
        high: greatest value.
        log: whether ratios matter rather than differences.
        step: distance of allowed values from `low` on; 1 where `log`.
        default: what the model takes where nothing is said, or None.
    """

    low: int
    high: int
    log: bool = False
    step: int = 1
    default: int | None = None

    def __post_init__(self) -> None:
        _check_bounds(self.low, self.high, self.log)
        if self.step < 1 or (self.log and self.step != 1):
            raise ModelError(f"search space: step {self.step} of a whole number from {self.low} to {self.high}")

    def suggest(self, name: str, trial: Trial) -> int:
        """Ask a trial for a value."""
        return int(trial.suggest_int(name, self.low, self.high, step=self.step, log=self.log))

    def holds(self, value: Any) -> bool:
        """Whether a value lies within the bounds and on a step."""
        whole = isinstance(value, int) and not isinstance(value, bool)
        return whole and self.low <= value <= self.high and (value - self.low) % self.step == 0

    def including(self, value: Any) -> Int:
        """Return the dimension, widened where it does not hold a value.

        Raises:
            ModelError: if the value is of another kind.
        """
        if self.holds(value):
            return self
        if isinstance(value, bool) or not isinstance(value, int) or (self.log and not value > 0):
            raise ModelError(f"search space: {value!r} cannot lie between {self.low} and {self.high}")
        low, high = min(self.low, value), max(self.high, value)
        return Int(low, high, self.log, default=self.default)

    def stored(self, value: Any) -> Any:
        """Return a value as a trial takes it."""
        return value


@dataclass(frozen=True)
class Float:
    """A number.

    Attributes:
        low: least value.
        high: greatest value.
        log: whether ratios matter rather than differences.
        step: distance of allowed values from `low` on, or None for all.
        default: what the model takes where nothing is said, or None.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None
    default: float | None = None

    def __post_init__(self) -> None:
        _check_bounds(self.low, self.high, self.log)
        if self.step is not None and (self.log or not self.step > 0):
            raise ModelError(f"search space: step {self.step} of a number from {self.low} to {self.high}")

    def suggest(self, name: str, trial: Trial) -> float:
        """Ask a trial for a value."""
        return float(trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log))

    def holds(self, value: Any) -> bool:
        """Whether a value lies within the bounds and on a step."""
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not self.low <= value <= self.high:
            return False
        steps = 0.0 if self.step is None else (value - self.low) / self.step
        return math.isclose(steps, round(steps), abs_tol=1e-6)

    def including(self, value: Any) -> Float:
        """Return the dimension, widened where it does not hold a value.

        Raises:
            ModelError: if the value is of another kind.
        """
        if self.holds(value):
            return self
        if isinstance(value, bool) or not isinstance(value, (int, float)) or (self.log and not value > 0):
            raise ModelError(f"search space: {value!r} cannot lie between {self.low} and {self.high}")
        low, high = min(self.low, value), max(self.high, value)
        return Float(low, high, self.log, default=self.default)

    def stored(self, value: Any) -> Any:
        """Return a value as a trial takes it."""
        return float(value)


@dataclass(frozen=True)
class Choice:
    """One of several plain values, which may be lists; a trial sees them as JSON text.

    Attributes:
        options: the values.
        default: what the model takes where nothing is said, or None.
    """

    options: tuple[Any, ...]
    default: Any = None

    def __post_init__(self) -> None:
        if not self.options or len({json.dumps(option) for option in self.options}) < len(self.options):
            raise ModelError(f"search space: a choice of {self.options}; give different values")

    def suggest(self, name: str, trial: Trial) -> Any:
        """Ask a trial for a value."""
        return json.loads(trial.suggest_categorical(name, [json.dumps(option) for option in self.options]))

    def holds(self, value: Any) -> bool:
        """Whether a value is one of the options."""
        return self.stored(value) in [json.dumps(option) for option in self.options]

    def including(self, value: Any) -> Choice:
        """Return the dimension, with a value added where it is not among the options."""
        return self if self.holds(value) else Choice((*self.options, value), self.default)

    def stored(self, value: Any) -> Any:
        """Return a value as a trial takes it."""
        return json.dumps(value)


Dimension: TypeAlias = Int | Float | Choice
SearchSpace: TypeAlias = Mapping[str, Dimension]


def sample(space: SearchSpace, trial: Trial) -> dict[str, Any]:
    """Ask a trial for a value of every dimension, in the space's order."""
    return {name: dimension.suggest(name, trial) for name, dimension in space.items()}


def to_trial(space: SearchSpace, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as a trial takes them; dimensions without one are left to the sampler."""
    return {name: dimension.stored(values[name]) for name, dimension in space.items() if name in values}


def _check_bounds(low: float, high: float, log: bool) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ModelError(f"search space: bounds {low} and {high}; the first must be the smaller")
    if log and not low > 0:
        raise ModelError(f"search space: a logarithmic dimension from {low}; begin above 0")
