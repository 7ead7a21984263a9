"""The Python interface to runs; here, the types of its arguments, which `checked` checks before the work begins.

Every command parses options, calls the function of its name here, and shows the result. A run can be given as its
folder, its name, `latest`, a folder of runs, or the `RunResult` that `run` returns.
"""

from __future__ import annotations

import functools
import inspect
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, SimpleNamespace
from typing import Annotated, Any, ParamSpec, TypeVar, get_args, get_type_hints

import numpy as np
import polars

from higgsbench.errors import ConfigError
from higgsbench.events import Events
from higgsbench.runs import RunResult
from higgsbench.runs.stored import StoredRun

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class _Kind:
    """What an argument may be: in words, and as a test of the whole value."""

    words: str
    holds: Callable[[Any], bool]


def _path_or(words: str, *types: type) -> _Kind:
    """Return the kind of a path, or of an object of other types."""

    def holds(value: Any) -> bool:
        path = isinstance(value, (str, os.PathLike)) and str(value) != "" and "\x00" not in str(value)
        return path or isinstance(value, types)

    return _Kind(words, holds)


def _is_number(value: Any) -> bool:
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    return number and not math.isnan(value)


def _is_list(value: Any, holds: Callable[[Any], bool]) -> bool:
    indexed = hasattr(value, "__len__") and hasattr(value, "__getitem__")
    return indexed and not isinstance(value, (str, bytes, Mapping)) and all(map(holds, value))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


_NAMES = "a list of names"

File = Annotated[str | Path, _path_or("a path")]
Text = Annotated[str, _Kind("text", _is_text)]
Names = Annotated[Sequence[str], _Kind(_NAMES, lambda value: _is_list(value, _is_text))]
Count = Annotated[int, _Kind("a whole number of at least 1", lambda value: type(value) is int and value >= 1)]
Switch = Annotated[bool, _Kind("True or False", lambda value: isinstance(value, bool))]
Run = Annotated[
    str | Path | RunResult | StoredRun, _path_or("a run's folder or what `run` returned", RunResult, StoredRun)
]
Config = Annotated[str | Path | Mapping[str, Any], _path_or("a YAML file or a mapping", Mapping)]
Submission = Annotated[str | Path | polars.DataFrame, _path_or("a file or a table", polars.DataFrame)]
Truth = Annotated[str | Path | Events, _path_or("labelled events or their file", Events)]
Time = Annotated[
    str | float, _Kind("seconds, or text such as '30m'", lambda value: _is_text(value) or _is_number(value))
]
Number = Annotated[float, _Kind("a number", _is_number)]
Totals = Annotated[
    tuple[float | None, float | None],
    # NaN is refused later, where the totals are used, in an error that names the total.
    _Kind(
        "two numbers (N_s, N_b)",
        lambda value: _is_list(value, lambda n: n is None or isinstance(n, float) or _is_number(n)) and len(value) == 2,
    ),
]
Sigmas = Annotated[
    float | Sequence[float],
    _Kind("a number or a list of numbers", lambda value: _is_number(value) or _is_list(value, _is_number)),
]
ANYTHING = _Kind("anything", lambda value: True)
"""For arguments that the function itself checks."""


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Refuse arguments of the wrong type with an error that names them; an unknown keyword still raises TypeError.

    Raises:
        ConfigError: by the function that is returned.
    """
    signature = inspect.signature(function)

    @functools.cache
    def kinds() -> dict[str, tuple[_Kind, bool]]:
        """Return what each argument may be, and whether None is allowed too."""
        # Types that only annotate the result are not imported at run time.
        arguments = {name: hint for name, hint in function.__annotations__.items() if name != "return"}
        hints = get_type_hints(SimpleNamespace(__annotations__=arguments), function.__globals__, include_extras=True)
        found = {}
        for name, hint in hints.items():
            kind = next(extra for part in (hint, *get_args(hint)) for extra in getattr(part, "__metadata__", ()))
            found[name] = (kind, NoneType in get_args(hint))
        return found

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        for name, given in signature.bind(*args, **kwargs).arguments.items():
            kind, optional = kinds()[name]
            name, values = ("run", given) if name == "runs" else (name, (given,))
            for value in values:
                if kind.holds(value) or (optional and value is None):
                    continue
                what = "nothing" if value is None else f"a {type(value).__name__}"
                hint = f"; write [{value!r}]" if isinstance(value, str) and kind.words == _NAMES else ""
                got = f"{str(value)[:60]!r} ({what}){hint}"
                raise ConfigError(f"{function.__name__}: {name}: expected {kind.words}, got {got}")
        return function(*args, **kwargs)

    return call
