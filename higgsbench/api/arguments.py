"""Types of the arguments of the Python interface; pydantic checks them before the work begins."""

from __future__ import annotations

import functools
import inspect
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

import numpy as np
import polars
from pydantic import ValidationError, validate_call
from pydantic_core import PydanticCustomError, core_schema

from higgsbench.errors import ConfigError
from higgsbench.events import Events
from higgsbench.runs import RunResult
from higgsbench.runs.stored import StoredRun

P = ParamSpec("P")
R = TypeVar("R")


class _Kind:
    """Accepts or refuses a value as a whole, described in the error; pydantic does not validate its content."""

    def __init__(self, words: str, holds: Callable[[Any], bool]) -> None:
        self.words, self.holds = words, holds

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        """Return the check."""
        return core_schema.no_info_plain_validator_function(self._check)

    def _check(self, value: Any) -> Any:
        if not self.holds(value):
            raise PydanticCustomError("kind", "expected {words}", {"words": self.words})
        return value


def _is_path(value: Any) -> bool:
    return isinstance(value, (str, os.PathLike)) and str(value) != "" and "\x00" not in str(value)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        return False
    return not math.isnan(value)


def _is_list(value: Any, holds: Callable[[Any], bool]) -> bool:
    indexed = hasattr(value, "__len__") and hasattr(value, "__getitem__")
    return indexed and not isinstance(value, (str, bytes, Mapping)) and all(map(holds, value))


_NAMES = "a list of names"

File = Annotated[str | Path, _Kind("a path", _is_path)]
Text = Annotated[str, _Kind("a text", lambda value: isinstance(value, str))]
Names = Annotated[Sequence[str], _Kind(_NAMES, lambda value: _is_list(value, lambda name: isinstance(name, str)))]
Count = Annotated[int, _Kind("a whole number of at least 1", lambda value: type(value) is int and value >= 1)]
Switch = Annotated[bool, _Kind("True or False", lambda value: isinstance(value, bool))]
Run = Annotated[
    str | Path | RunResult | StoredRun,
    _Kind(
        "a run's folder or what `run` returned", lambda run: isinstance(run, (RunResult, StoredRun)) or _is_path(run)
    ),
]
Config = Annotated[
    str | Path | Mapping[str, Any],
    _Kind("a YAML file or a mapping", lambda value: isinstance(value, Mapping) or _is_path(value)),
]
Submission = Annotated[
    str | Path | polars.DataFrame,
    _Kind("a file or a table", lambda value: isinstance(value, polars.DataFrame) or _is_path(value)),
]
Truth = Annotated[
    str | Path | Events,
    _Kind("labelled events or their file", lambda value: isinstance(value, Events) or _is_path(value)),
]
Time = Annotated[
    str | float, _Kind("seconds, or a text such as '30m'", lambda value: isinstance(value, str) or _is_number(value))
]
Number = Annotated[float, _Kind("a number", _is_number)]
Totals = Annotated[
    tuple[float | None, float | None],
    _Kind(
        "two numbers (N_s, N_b)",
        # NaN is refused later, where the totals are used, in an error that names the total.
        lambda value: _is_list(value, lambda n: n is None or isinstance(n, float) or _is_number(n)) and len(value) == 2,
    ),
]
Sigmas = Annotated[
    float | Sequence[float],
    _Kind("a number or several", lambda value: _is_number(value) or _is_list(value, _is_number)),
]
ANYTHING = _Kind("anything", lambda value: True)
"""For arguments that the function itself checks."""


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Refuse arguments of the wrong type in an error that names them; an unknown keyword still raises TypeError.

    Raises:
        ConfigError: by the function that is returned.
    """
    signature = inspect.signature(function)
    names = list(signature.parameters)

    @functools.cache
    def validated() -> Callable[..., R]:
        # Types that only annotate the result are not imported at run time.
        function.__annotations__ = {k: v for k, v in function.__annotations__.items() if k != "return"}
        return validate_call(config={"arbitrary_types_allowed": True})(function)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        signature.bind(*args, **kwargs)
        try:
            return validated()(*args, **kwargs)
        except ValidationError as error:
            if error.title != function.__name__:
                raise
            raise _refusal(function.__name__, names, error) from None

    return call


def _refusal(function: str, names: list[str], error: ValidationError) -> ConfigError:
    """Say which argument is wrong, what it may be and what it is."""
    first = error.errors(include_url=False)[0]
    place = first["loc"][0]
    # Positions beyond the named arguments are further runs.
    name = names[min(place, len(names) - 1)] if isinstance(place, int) else place
    name = "run" if name == "runs" or (isinstance(place, int) and names[0] == "runs") else name
    value = first["input"]
    what = "nothing" if value is None else f"a {type(value).__name__}"
    hint = f"; write [{value!r}]" if isinstance(value, str) and first["msg"].endswith(_NAMES) else ""
    return ConfigError(f"{function}: {name}: {first['msg']}, got {str(value)[:60]!r} ({what}){hint}")
